"""The few windows beside the main one: export, questions, keyboard shortcuts, about."""

from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from PySide6.QtCore import QRect, QSize, Qt, Signal
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from app.actions import ACTIONS, MENUS, without_mnemonic
from app.fields import hint
from app.surface.ticks import number
from app.theme import icon, set_role
from models.formats import MAP_SUFFIXES
from models.language import N_, _

FORMATS: dict[str, tuple[str, str]] = {
    ".h5": (N_("Reliefscope file"), N_("Heights, confidence, flags and all-in-focus image; opens here again")),
    ".tif": (N_("TIFF, 32 bit"), N_("Heights in µm as numbers, NaN where missing; ImageJ, Gwyddion, MATLAB")),
    ".x3p": (N_("X3P, ISO 25178-72"), N_("Exchange of measured surfaces between instruments")),
    ".stl": (N_("STL mesh"), N_("3D printing and CAD, in µm")),
    ".ply": (N_("PLY mesh"), N_("3D programs, with the colours of the all-in-focus image")),
    ".obj": (N_("OBJ mesh"), N_("3D programs")),
    ".png": (N_("PNG picture"), N_("Coloured heights with scale bar and colour bar, for reports")),
    ".csv": (N_("CSV table"), N_("Heights as text, one row per image row; spreadsheets")),
    ".npy": (N_("NumPy array"), N_("Heights for Python")),
}
MESHES = (".stl", ".ply", ".obj")


def ask_where_to_save(parent: QWidget, title: str, start: Path, kinds: str, suffixes: Collection[str]) -> Path | None:
    """The file that the user chose, or None. One that has none of ``suffixes`` gets the suffix of ``start``."""
    name, _kind = QFileDialog.getSaveFileName(parent, title, str(start), kinds)
    if not name:
        return None
    path = Path(name)
    if path.suffix.lower() in suffixes:
        return path
    path = path.with_name(path.name + start.suffix)
    # The dialog asked about the name that was typed, not about this one.
    question = _("{name} exists already. Replace it?").format(name=path.name)
    if path.exists() and QMessageBox.question(parent, title, question) != QMessageBox.StandardButton.Yes:
        return None
    return path


class ExportDialog(QDialog):
    """Which format, whether weak heights are left out, and for a mesh whether it is closed; then the file name.

    ``threshold``: the confidence below which heights are hidden on the screen.
    """

    chosen = Signal(object, object)
    """The path and the options of :meth:`app.opening.Opening.export`."""

    def __init__(self, parent: QWidget, start: Path, *, calibrated: bool, threshold: float = 0.0) -> None:
        super().__init__(parent)
        self.setWindowTitle(_("Export Height Map"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._start, self._threshold = start, threshold
        self.list = QListWidget()
        for suffix, (title, about) in FORMATS.items():
            if suffix not in MAP_SUFFIXES:
                continue
            item = QListWidgetItem(f"{_(title)}  ({suffix})\n{_(about)}")
            item.setData(Qt.ItemDataRole.UserRole, suffix)
            # Measured, because lines of Chinese are taller than the font of the window says.
            room = self.fontMetrics().boundingRect(QRect(0, 0, 2000, 500), 0, item.text())
            item.setSizeHint(QSize(0, room.height() + 16))
            if not calibrated and suffix in (".x3p", *MESHES):
                item.setFlags(Qt.ItemFlag.NoItemFlags)
            self.list.addItem(item)
        self.watertight = QCheckBox(_("Close the mesh with walls and a base (for 3D printing)"))
        self.without_weak = QCheckBox(
            _("Leave out heights below {confidence} confidence").format(confidence=f"{number(100 * threshold, 0)} %")
        )
        self.without_weak.setToolTip(_("As they are hidden on the screen by “Hide below”"))
        self.without_weak.setChecked(threshold > 0)
        self.without_weak.setEnabled(threshold > 0)
        self.note = hint(_("Meshes and X3P need a scale: give step and pixel size first."))
        self.note.setVisible(not calibrated)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.save = buttons.addButton(_("Save As…"), QDialogButtonBox.ButtonRole.AcceptRole)
        buttons.button(QDialogButtonBox.StandardButton.Cancel).setText(_("Cancel"))
        set_role(self.save, "primary")
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 16)
        column.setSpacing(10)
        for widget in (self.list, self.without_weak, self.watertight, self.note, buttons):
            column.addWidget(widget)
        buttons.accepted.connect(self._choose_file)
        buttons.rejected.connect(self.reject)
        self.list.currentItemChanged.connect(self._show_options)
        self.list.itemDoubleClicked.connect(self._choose_file)
        self.list.setCurrentRow(0)
        self.resize(520, 560)

    @property
    def suffix(self) -> str:
        item = self.list.currentItem()
        return str(item.data(Qt.ItemDataRole.UserRole)) if item else ".h5"

    def options(self) -> dict[str, bool | float]:
        options: dict[str, bool | float] = {}
        if self.suffix in MESHES:
            options["watertight"] = self.watertight.isChecked()
        if self.without_weak.isChecked():
            options["least_confidence"] = self._threshold
        return options

    def _show_options(self) -> None:
        self.watertight.setEnabled(self.suffix in MESHES)

    def _choose_file(self) -> None:
        kind = f"{_(FORMATS[self.suffix][0])} (*{self.suffix})"
        start = self._start.with_suffix(self.suffix)
        path = ask_where_to_save(self, _("Export Height Map"), start, kind, MAP_SUFFIXES)
        if path is not None:
            self.chosen.emit(path, self.options())
            self.accept()


class ShortcutsDialog(QDialog):
    """All shortcuts by menu, in two columns."""

    def __init__(self, parent: QWidget, actions: Iterable[QAction]) -> None:
        super().__init__(parent)
        self.setWindowTitle(_("Keyboard Shortcuts"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        by_name = {action.objectName(): action for action in actions}
        page = QWidget()
        sides = QHBoxLayout(page)
        sides.setContentsMargins(24, 12, 24, 20)
        sides.setSpacing(40)
        for menus in (("file", "view", "help", "reconstruct"), ("stage", "camera", "stack")):
            sides.addWidget(_shortcut_list(menus, by_name), 1, Qt.AlignmentFlag.AlignTop)
        scroll = QScrollArea()
        scroll.setWidget(page)
        scroll.setWidgetResizable(True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(scroll)
        self.resize(
            min(page.sizeHint().width() + 30, parent.width()), min(page.sizeHint().height() + 10, parent.height())
        )


def _shortcut_list(menus: Iterable[str], actions: Mapping[str, QAction]) -> QWidget:
    column = QWidget()
    grid = QGridLayout(column)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(20)
    grid.setVerticalSpacing(5)
    for menu in menus:
        heading = QLabel(without_mnemonic(_(MENUS[menu])))
        heading.setContentsMargins(0, 10, 0, 2)
        set_role(heading, "heading")
        grid.addWidget(heading, grid.rowCount(), 0, 1, 2)
        for spec in ACTIONS:
            if spec.menu != menu:
                continue
            action = actions[spec.name]
            keys = QLabel(action.shortcut().toString(QKeySequence.SequenceFormat.NativeText))
            set_role(keys, "hint")
            row = grid.rowCount()
            grid.addWidget(QLabel(action.text()), row, 0)
            grid.addWidget(keys, row, 1)
    return column


def may_end_capture(parent: QWidget) -> bool:
    """Asked once before leaving; the frames captured so far are kept either way."""
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("Reliefscope")
    box.setText(_("A capture is running."))
    box.setInformativeText(_("If you leave now it ends early. The frames captured so far are kept."))
    stay = box.addButton(_("Keep Capturing"), QMessageBox.ButtonRole.RejectRole)
    leave = box.addButton(_("End and Leave"), QMessageBox.ButtonRole.DestructiveRole)
    box.setDefaultButton(stay)
    box.setEscapeButton(stay)
    box.exec()
    return box.clickedButton() is leave


class AboutDialog(QDialog):
    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle(_("About Reliefscope"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        picture = QLabel()
        picture.setPixmap(icon("app").pixmap(48, 48))
        title = QLabel("Reliefscope")
        set_role(title, "title")
        column = QVBoxLayout(self)
        column.setContentsMargins(32, 28, 32, 24)
        column.setSpacing(8)
        for widget in (
            picture,
            title,
            QLabel(_("Version {version}").format(version=version("reliefscope"))),
            hint(_("Turns a motorized microscope into a 3D instrument.")),
            hint(
                _("Free software under the Apache License 2.0. Built with Qt, NumPy, SciPy, OpenCV, h5py and others.")
            ),
        ):
            column.addWidget(widget)
        buttons = QDialogButtonBox()
        buttons.addButton(_("Close"), QDialogButtonBox.ButtonRole.RejectRole)
        buttons.rejected.connect(self.reject)
        column.addSpacing(8)
        column.addWidget(buttons)
        self.setFixedWidth(420)
