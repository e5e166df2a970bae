"""The pages beside the window that stay open while one works: each only once, each with Esc as STOP."""

from collections.abc import Callable
from typing import TypeVar

from PySide6.QtWidgets import QDialog, QWidget

from app.actions import Actions
from app.capture.device_page import DevicePage
from app.capture.device_search import DeviceSearch
from app.capture.gamepad import Gamepad
from app.capture.gamepad_dialog import GamepadDialog
from app.capture.link import MicroscopeLink
from app.capture.workspace import CaptureWorkspace
from app.palette import Palette

Page = TypeVar("Page", bound=QDialog)


class SidePages:
    """``window``: which they belong to. ``capture``: whose microscope the page of devices begins with."""

    def __init__(
        self, window: QWidget, link: MicroscopeLink, search: DeviceSearch, gamepad: Gamepad, capture: CaptureWorkspace
    ) -> None:
        self._window, self._link, self._search, self._gamepad = window, link, search, gamepad
        self._capture = capture

    def show_devices(self) -> None:
        """The page that finds devices and describes a microscope; what it saves can be connected at once."""
        chosen = self._capture.profile.currentData() or ""
        page = self._show(
            DevicePage, lambda: DevicePage(self._window, self._search, self._link, chosen, self._stop_if_moving)
        )
        if page is not None:
            page.saved.connect(lambda path: self._capture.show_profiles(str(path)))
            page.connectRequested.connect(lambda: self._capture.connect_microscope())

    def show_gamepad(self) -> None:
        """What the gamepad does, live, and whether it may move the stage."""
        self._show(GamepadDialog, lambda: GamepadDialog(self._window, self._gamepad, self._stop_if_moving))

    def show_palette(self, actions: Actions) -> None:
        Palette(actions, self._window, self._stop_if_moving).open()

    def close(self) -> None:
        """What they show is of the language and theme in which they were opened."""
        for kind in (DevicePage, GamepadDialog):
            for page in self._window.findChildren(kind):
                page.close()

    def _show(self, kind: type[Page], make: Callable[[], Page]) -> Page | None:
        """The new page; None where there is one, which is then in front."""
        for page in self._window.findChildren(kind):
            if page.isVisible():
                page.raise_()
                page.activateWindow()
                return None
        page = make()
        page.show()
        return page

    def _stop_if_moving(self) -> None:
        if self._link.busy or self._link.target_um is not None or self._gamepad.is_jogging:
            self._link.stop()
