"""A 16-bit stack from Basler's emulated camera through the window: connect, live, capture, height map."""

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from app.capture.stack_panel import StackSetup
from app.main_window import MainWindow
from app.settings import Settings
from models import storage
from tests.basler_camera import BOTTOM_UM, COUNT, SHAPE, TOP_UM, emulated_microscope, sent_frame

LONG = 60_000


@pytest.fixture
def truth_um(tmp_path, monkeypatch, private_settings):
    """The heights that the camera's images show; its profile is the only one of the user."""
    profile, known_um = emulated_microscope(tmp_path, monkeypatch)
    folder = private_settings / "profiles"
    folder.mkdir(parents=True)
    profile.rename(folder / profile.name)
    return known_um


@pytest.fixture
def settings(truth_um, private_settings) -> Settings:
    return Settings(profile=str(private_settings / "profiles" / "basler.toml"))


def test_100_frames_of_16_bit_become_a_height_map(qtbot: QtBot, truth_um, connected: MainWindow, tmp_path) -> None:
    window = connected
    assert "Emulation" in window.link.device.camera_name
    assert window.link.settings.bit_depth == 16
    window.capture.stack.set_value(StackSetup(TOP_UM, BOTTOM_UM, by_step=False, frame_count=COUNT))
    window.link.set_live(False)
    with qtbot.waitSignal(window.link.settingsChanged, timeout=LONG):  # the camera's images begin again
        window.link.apply(window.link.settings.model_copy(update={"exposure_ms": 1.5}))
    with qtbot.waitSignal(window.run.captured, timeout=LONG) as captured:
        QTest.mouseClick(window.capture.start, Qt.MouseButton.LeftButton)
    assert storage.frames_written(captured.args[0]) == (COUNT, COUNT)
    qtbot.waitUntil(lambda: window.document.height_map is not None, timeout=LONG)
    stack = window.document.stack
    assert stack.frames.shape == (COUNT, *SHAPE)
    assert stack.frames.dtype == np.uint16
    for index in (0, 1, 50, COUNT - 1):
        np.testing.assert_array_equal(stack.frames[index], sent_frame(tmp_path, index))
    step_um = (TOP_UM - BOTTOM_UM) / (COUNT - 1)
    assert np.nanmedian(np.abs(window.document.height_map.height_um - truth_um)) < step_um
