"""What tests of the window ask again and again."""

from app.main_window import MainWindow

LONG = 20_000
"""Milliseconds that nothing here should ever take."""


def opened(qtbot, window: MainWindow) -> None:
    qtbot.waitUntil(lambda: window.document.height_map is not None, timeout=LONG)


def bar_texts(window: MainWindow) -> list[str]:
    return [bar.text for bar in window.bars.bars()]
