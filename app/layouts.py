"""Where the window and its panels were, from one start of the program to the next."""

from collections.abc import Mapping
from typing import Protocol

from PySide6.QtCore import QByteArray, Qt
from PySide6.QtWidgets import QMainWindow

from app.settings import Settings

SMALL_SCREEN = 1600
"""On a screen narrower than this the first start fills it."""


class Page(Protocol):
    """A workspace with panels that can be moved."""

    def save_layout(self) -> QByteArray: ...

    def restore_layout(self, state: QByteArray) -> object: ...


def remember_layouts(settings: Settings, pages: Mapping[str, Page]) -> None:
    settings.layouts = {name: bytes(page.save_layout().toHex().data()).decode() for name, page in pages.items()}


def restore_layouts(settings: Settings, pages: Mapping[str, Page]) -> None:
    for name, page in pages.items():
        if stored := settings.layouts.get(name):
            page.restore_layout(QByteArray.fromHex(stored.encode()))


def remember_geometry(settings: Settings, window: QMainWindow) -> None:
    settings.geometry = bytes(window.saveGeometry().toHex().data()).decode()


def restore_geometry(settings: Settings, window: QMainWindow) -> None:
    """Nearly the whole screen where nothing is remembered."""
    stored = QByteArray.fromHex(settings.geometry.encode())
    if not settings.geometry or not window.restoreGeometry(stored):
        available = window.screen().availableSize()
        window.resize(available * 0.92)
        if available.width() < SMALL_SCREEN:
            window.setWindowState(Qt.WindowState.WindowMaximized)
