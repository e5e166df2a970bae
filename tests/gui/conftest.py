"""One application for all window tests, private settings for each of them, and a look for windows left behind."""

import gc
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PySide6.QtCore import QCoreApplication, QEvent, Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.main_window import MainWindow
from app.settings import Settings
from models.language import use_language


@pytest.fixture(scope="session")
def qapp_cls() -> type[QApplication]:
    # pyqtgraph shares its shader programs between all views, so their contexts must be shared too.
    QCoreApplication.setAttribute(Qt.ApplicationAttribute.AA_ShareOpenGLContexts)
    return QApplication


@pytest.fixture(autouse=True)
def private_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's own settings and captures are out of reach; the language is English."""
    folder = tmp_path / "user"
    monkeypatch.setenv("RELIEFSCOPE_HOME", str(folder))
    use_language("en")
    yield folder
    use_language("en")


@pytest.fixture(autouse=True)
def no_windows_left(qapp: QApplication, request: pytest.FixtureRequest) -> Iterator[None]:
    """Every window that a test opened is gone when it ends."""
    before = {id(widget) for widget in qapp.topLevelWidgets()}
    yield
    for _ in range(3):
        gc.collect()
        qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        qapp.processEvents()
    # Qt keeps a private, invisible window per shared OpenGL context and per closed menu: only ours count.
    left = [
        widget
        for widget in qapp.topLevelWidgets()
        if id(widget) not in before and type(widget).__module__.startswith("app.")
    ]
    assert not left, f"{request.node.name} left {left}"


FAST_MICROSCOPE = """
title = "Fast test microscope"
objective = "10x / 0.30"
time_scale = 10

[[objectives]]
name = "10x / 0.30"
magnification = 10
na = 0.30

[stage]
driver = "simulated"
low_um = -1000
high_um = 1000
start_um = 20

[axis]
soft_limits_um = [-300, 500]
backlash_um = 5.0
settle_ms = 20

[camera]
driver = "simulated"
image_shape = [96, 128]
sensor_pixel_um = 5.0

[sample]
surface = "sphere"
"""


@pytest.fixture
def settings(private_settings: Path) -> Settings:
    """Settings of a user who owns one microscope, a fast one."""
    profile = private_settings / "profiles" / "fast.toml"
    profile.parent.mkdir(parents=True)
    profile.write_text(FAST_MICROSCOPE)
    return Settings(profile=str(profile))


@pytest.fixture
def window(qtbot: QtBot, settings: Settings) -> Iterator[MainWindow]:
    window = MainWindow(settings)
    window.resize(1366, 768)
    window.show()
    window.activateWindow()  # without a window manager nobody else does, and shortcuts need it
    qtbot.waitUntil(window.isActiveWindow)
    yield window
    window.link.stop()
    qtbot.waitUntil(lambda: not window.link.busy, timeout=10_000)  # closing in mid-capture asks, and waits for ever
    window.close()
    window.deleteLater()


@pytest.fixture
def connected(qtbot: QtBot, window: MainWindow) -> MainWindow:
    """The window with its microscope connected and the first picture seen."""
    with qtbot.waitSignal(window.link.pictureReady, timeout=10_000):
        window.actions_by_name["connect"].trigger()
    return window


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of six images: noise that is sharpest in the third."""
    folder = tmp_path / "stack"
    folder.mkdir()
    noise = np.random.default_rng(1).normal(0, 60, (48, 64))
    for index in range(6):
        image = np.clip(128 + noise * np.exp(-((index - 2) ** 2) / 2), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"frame_{index}.png"), image)
    return folder
