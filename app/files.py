"""The dialogs and offers around files: open, export, save a picture, recover, choose the captures folder."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from app.bars import Bars
from app.dialogs import ExportDialog, ask_where_to_save
from app.document import Document
from app.opening import Opening, check_can_open
from app.settings import Settings
from models.errors import ReliefscopeError
from models.formats import STACK_SUFFIXES
from models.language import _


class Files(QObject):
    """Asks the user where, and has :class:`Opening` do it. ``opening_begun``: a stack is on its way."""

    opening_begun = Signal()
    captures_folder_changed = Signal()
    failed = Signal(object)

    def __init__(self, opening: Opening, document: Document, settings: Settings, bars: Bars, window: QWidget) -> None:
        super().__init__(window)
        self._opening, self._document, self._settings, self._bars = opening, document, settings, bars
        self._window = window

    def choose_file(self) -> None:
        patterns = " ".join(f"*{suffix}" for suffix in sorted(STACK_SUFFIXES))
        name, _filter = QFileDialog.getOpenFileName(
            self._window, _("Open Stack"), self._last_folder(), _("Stacks ({patterns})").format(patterns=patterns)
        )
        if name:
            self.open_path(Path(name))

    def choose_folder(self) -> None:
        title = _("Open a Folder of Images")
        if name := QFileDialog.getExistingDirectory(self._window, title, self._last_folder()):
            self.open_path(Path(name))

    def open_path(self, path: Path) -> None:
        """Open a folder or file as a stack, in the background."""
        try:
            check_can_open(path)
        except ReliefscopeError as error:
            self.failed.emit(error)
            return
        self._opening.open(path.absolute())
        self.opening_begun.emit()

    def close_stack(self) -> None:
        self._opening.worker.cancel()
        self._document.close()

    def export(self, threshold: float = 0.0) -> None:
        """``threshold``: the confidence below which heights are hidden on the screen."""
        height_map = self._document.height_map
        if height_map is None:
            return
        start = self._document.path or self._settings.captures_folder / "height"
        calibrated = height_map.z_unit == "um" and height_map.pixel_um is not None
        dialog = ExportDialog(self._window, start, calibrated=calibrated, threshold=threshold)
        dialog.chosen.connect(lambda path, options: self._opening.export(path, **options))
        dialog.open()

    def save_picture(self, image: NDArray[Any]) -> None:
        """A live image as the camera delivered it."""
        start, kinds = self._settings.captures_folder / "picture.tif", "TIFF (*.tif *.tiff);;PNG (*.png)"
        path = ask_where_to_save(self._window, _("Save Picture"), start, kinds, (".tif", ".tiff", ".png"))
        if path is not None:
            self._opening.save_picture(path, image)

    def choose_captures_folder(self) -> None:
        start = str(self._settings.captures_folder)
        if name := QFileDialog.getExistingDirectory(self._window, _("Folder for Captures"), start):
            self._settings.captures_folder = Path(name)
            self.captures_folder_changed.emit()

    def look_for_interrupted(self) -> None:
        """Offer to recover captures that were never completed."""
        self._opening.find_interrupted(self._settings.captures_folder, self._offer_recovery)

    def _offer_recovery(self, paths: list[Path]) -> None:
        for path in paths:
            self._bars.show_look(
                "",
                _("The capture {name} was interrupted. The frames that reached the disk can be recovered.").format(
                    name=path.name
                ),
                (_("Recover"), lambda path=path: self._recover(path)),
                (_("Later"), lambda: None),
            )

    def _recover(self, path: Path) -> None:
        self._opening.recover(path)
        self.opening_begun.emit()

    def _last_folder(self) -> str:
        recent = self._settings.recent_files
        return str(Path(recent[0]).parent) if recent else str(Path.home())
