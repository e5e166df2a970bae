"""One application for all window tests, private settings for each of them, and a look for windows left behind."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QCoreApplication, QEvent, Qt
from PySide6.QtWidgets import QApplication

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
