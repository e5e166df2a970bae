"""The window: four workspaces on one document and one microscope."""

import logging
from pathlib import Path

from PySide6.QtCore import QUrl
from PySide6.QtGui import QCloseEvent, QDesktopServices, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QApplication,
    QMainWindow,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.actions import Actions
from app.bars import Bar, Bars
from app.capture.device_search import DeviceSearch
from app.capture.faults import Faults
from app.capture.gamepad import Gamepad
from app.capture.link import MicroscopeLink
from app.capture.run import CaptureRun
from app.capture.workspace import CaptureWorkspace
from app.dialogs import AboutDialog, ShortcutsDialog, may_end_capture
from app.document import Document
from app.files import Files
from app.inspection.workspace import InspectWorkspace
from app.labeling.workspace import LabelWorkspace
from app.layouts import remember_geometry, remember_layouts, restore_geometry, restore_layouts
from app.menus import Menus
from app.opening import Opening, can_open
from app.qt_language import prepare_qt_for
from app.scale_bar import ScaleBar
from app.settings import Settings, load_settings, log_folder, save_settings
from app.side_pages import SidePages
from app.status_line import StatusLine
from app.surface.reconstruction_panel import options_of
from app.surface.workspace import SurfaceWorkspace
from app.tasks import Tasks
from app.theme import apply_theme
from app.top_bar import TopBar
from hardware.camera import CameraError
from hardware.stage import StageError
from models.errors import ReliefscopeError
from models.height_map import HeightMap
from models.language import _, use_language
from models.methods import ReconstructionOptions

log = logging.getLogger(__name__)

WORKSPACES = ("capture", "surface", "label", "inspect")
SMOOTHING = 1.0


class MainWindow(QMainWindow):
    """Holds the document, the microscope link and the workers; builds everything that is seen around them.

    A change of language builds the visible part anew: what is open, connected or running stays.
    """

    def __init__(self, settings: Settings | None = None, *, remember: bool = True) -> None:
        """``remember`` False: nothing is written into the user's settings."""
        super().__init__()
        self.settings = settings or load_settings()
        self._remember = remember
        prepare_qt_for(use_language(self.settings.language))
        self.setWindowTitle("Reliefscope")
        self.setAcceptDrops(True)
        self.setMinimumSize(1024, 640)
        self.document = Document(self)
        self.link = MicroscopeLink(self)
        self.run = CaptureRun(self.link, self)
        self.opening = Opening(self.document, lambda: self.settings.reconstruction, self)
        self.link.pictures.set_auto_contrast(self.settings.auto_contrast)
        self.bars = Bars()
        self._stop_bar: Bar | None = None
        self.faults = Faults(self.link, self.bars, lambda: self.capture.connect_microscope())
        self.search = DeviceSearch(self)
        self.gamepad = Gamepad(self.link, self.settings.gamepad, self.stop, self)
        self.files = Files(self.opening, self.document, self.settings, self.bars, self)
        self._build()
        self._listen()
        restore_geometry(self.settings, self)
        self.show_workspace(self.settings.workspace)
        self.files.look_for_interrupted()
        for problem in self.capture.left_out:
            self.tell(str(problem))

    # --- building

    def _build(self) -> None:
        self.actions_by_name = actions = Actions(self)
        actions["light_theme"].setChecked(self.settings.theme == "light")
        actions["auto_contrast"].setChecked(self.settings.auto_contrast)
        actions["surface_after_capture"].setChecked(self.settings.show_surface_after_capture)
        self.addActions(list(actions))
        self.capture = CaptureWorkspace(self.link, self.run, actions, self.settings)
        self.surface = SurfaceWorkspace(
            self.document, actions=(actions["open"], actions["open_folder"], actions["capture"])
        )
        self.side_pages = SidePages(self, self.link, self.search, self.gamepad, self.capture)
        self._pages = QStackedWidget()
        for page in (
            self.capture,
            self.surface,
            LabelWorkspace((actions["surface"],)),
            InspectWorkspace((actions["surface"],)),
        ):
            self._pages.addWidget(page)
        self.scale_bar = ScaleBar()
        self._scale_place = QWidget()  # what it asks belongs to the Surface workspace, and is seen only there
        inside = QVBoxLayout(self._scale_place)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addWidget(self.scale_bar)
        self.status = StatusLine(actions["cancel"])
        self.status.watch_disk(self.settings.captures_folder)
        self.status.diskLookedAt.connect(self.capture.stack.refresh_summary)
        self.menus = Menus(
            actions,
            self.settings,
            language=use_language(self.settings.language),
            panels=(*self.capture.dock_actions(), *self.surface.dock_actions()),
            open_path=self.open_path,
            set_language=self.set_language,
        )
        self.top = TopBar(actions, self.menus)
        center = QWidget()
        column = QVBoxLayout(center)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        for widget in (self.top, self.bars, self._scale_place):
            column.addWidget(widget)
        column.addWidget(self._pages, 1)
        column.addWidget(self.status)
        self.setCentralWidget(center)
        self.tasks = Tasks(
            self.link, (self.opening.worker, self.opening.writer, self.search.worker), self.status, actions, center
        )
        self._connect_actions(actions)
        self._connect_pages()
        restore_layouts(self.settings, self._pages_with_panels())
        self._show_document()
        self._show_stopped()

    def _connect_actions(self, actions: Actions) -> None:
        for name in WORKSPACES:
            actions[name].triggered.connect(lambda _on=True, name=name: self.show_workspace(name))
        actions.connect_to(
            open=self.files.choose_file,
            open_folder=self.files.choose_folder,
            export=lambda: self.files.export(self.surface.display.value().threshold),
            close=self.files.close_stack,
            captures_folder=self.files.choose_captures_folder,
            quit=self.close,
            light_theme=self.set_light_theme,
            full_screen=lambda on: self.showFullScreen() if on else self.showNormal(),
            reset_layout=self.reset_layout,
            stop=self.stop,
            release=self.link.release,
            home=self.faults.ask_home,
            confirm_position=self.faults.ask_confirm,
            gamepad=self.side_pages.show_gamepad,
            devices=self.side_pages.show_devices,
            cancel=self.tasks.cancel,
            snapshot=self._save_picture,
            auto_contrast=lambda on: setattr(self.settings, "auto_contrast", on),
            surface_after_capture=lambda on: setattr(self.settings, "show_surface_after_capture", on),
            reconstruct=lambda: self.opening.reconstruct(self.surface.reconstruction.value()),
            set_scale=self.show_scale_bar,
            align=lambda on: self._change_options(align="similarity" if on else "none"),
            smooth=lambda on: self._change_options(regularisation=SMOOTHING if on else 0.0),
            palette=lambda: self.side_pages.show_palette(actions),
            shortcuts=lambda: ShortcutsDialog(self, actions).open(),
            log=open_log_folder,
            about=lambda: AboutDialog(self).open(),
        )

    def _connect_pages(self) -> None:
        self.capture.told.connect(self.tell)
        self.capture.reconstruction.valueChanged.connect(self._set_options)
        self.surface.optionsChanged.connect(self._set_options)
        self.surface.reconstructRequested.connect(self.opening.reconstruct)
        self.surface.failed.connect(lambda error: self.show_error("", error))
        self.scale_bar.scaleChosen.connect(self._set_scale)
        self._set_options(self.settings.reconstruction)

    def _listen(self) -> None:
        """To everything that outlives the visible part."""
        self.document.stackChanged.connect(self._show_document)
        self.document.heightMapChanged.connect(self._show_document)
        self.link.stoppedChanged.connect(self._show_stopped)
        self.link.failed.connect(self.show_error)
        self.run.captured.connect(self._on_captured)
        self.run.told.connect(self.tell)
        self.run.failed.connect(self.show_error)
        self.opening.failed.connect(lambda error: self.show_error("", error))
        self.files.opening_begun.connect(lambda: self.show_workspace("surface"))
        self.files.failed.connect(lambda error: self.show_error("", error))
        self.files.captures_folder_changed.connect(self._on_captures_folder_changed)
        self.gamepad.told.connect(self.tell)
        self.search.failed.connect(lambda error: self.show_error("", error))
        self.opening.opened.connect(self._on_opened)
        self.opening.saved.connect(self._on_saved)

    # --- workspaces, theme, language, layout

    def show_workspace(self, name: str) -> None:
        self.settings.workspace = name
        self._pages.setCurrentIndex(WORKSPACES.index(name))
        self._scale_place.setVisible(name == "surface")
        self.actions_by_name[name].setChecked(True)

    def set_light_theme(self, on: bool) -> None:
        self.settings.theme = "light" if on else "dark"
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        apply_theme(app, self.settings.theme)
        self._rebuild()

    def set_language(self, code: str) -> None:
        self.settings.language = use_language(code)
        prepare_qt_for(self.settings.language)
        self._rebuild()

    def _rebuild(self, *, keep_layouts: bool = True) -> None:
        """Make everything that is seen anew; open bars stay, and what is set in the stack panel moves over."""
        remember_layouts(self.settings, self._pages_with_panels())
        if not keep_layouts:
            self.settings.layouts = {}
        setup, sample = self.capture.stack.value(), self.capture.sample.text()
        options = self.surface.reconstruction.value()
        self.side_pages.close()
        for action in self.actions():
            self.removeAction(action)
        self.surface.close_threads()
        old, old_actions = self.takeCentralWidget(), self.actions_by_name
        self._build()
        self.bars.refresh_icons()
        old.deleteLater()
        old_actions.deleteLater()
        self.capture.stack.set_value(setup)
        self.capture.sample.setText(sample)
        self._show_options(options)
        self.show_workspace(self.settings.workspace)

    def reset_layout(self) -> None:
        """Every panel back to its place."""
        self._rebuild(keep_layouts=False)

    def _pages_with_panels(self) -> dict[str, CaptureWorkspace | SurfaceWorkspace]:
        return {"capture": self.capture, "surface": self.surface}

    # --- files

    def open_path(self, path: Path) -> None:
        """Open a folder or file as a stack, in the background."""
        self.files.open_path(path)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if any(url.isLocalFile() and can_open(Path(url.toLocalFile())) for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            event.acceptProposedAction()
            self.open_path(next((path for path in paths if can_open(path)), paths[0]))

    def _on_captures_folder_changed(self) -> None:
        self.status.watch_disk(self.settings.captures_folder)
        self.capture.stack.refresh_summary()
        self.files.look_for_interrupted()

    def _save_picture(self) -> None:
        if (picture := self.capture.live.picture) is not None:
            self.files.save_picture(picture.image)

    # --- what happened

    def _on_opened(self, path: Path) -> None:
        self.settings.remember_file(path)
        stack, height_map = self.document.stack, self.document.height_map
        self._show_options((height_map and options_of(height_map)) or self.settings.reconstruction)
        if stack is not None:
            self.scale_bar.show_stack(stack)
            self.scale_bar.setVisible(stack.z_unit == "frame")

    def _on_saved(self, path: Path) -> None:
        self.bars.show_info(
            _("Written: {path}").format(path=path),
            (_("Show Folder"), lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(path.parent)))),
        )

    def _on_captured(self, path: Path, height_map: HeightMap | None) -> None:
        self.opening.take_capture(path, height_map, self.run.still_wanted)
        if self.settings.show_surface_after_capture:
            self.show_workspace("surface")
        if self.run.was_cut_short:
            return  # a bar says so already, and where the frames are
        self.bars.show_info(
            _("Captured: {path}").format(path=path),
            (_("Show in Surface"), lambda: self.show_workspace("surface")),
        )

    def _set_scale(self, step_um: float | None, pixel_um: float | None, downwards: bool) -> None:
        self.document.set_scale(step_um=step_um, pixel_um=pixel_um, downwards=downwards)

    def show_scale_bar(self) -> None:
        if self.document.stack is not None:
            self.show_workspace("surface")
            self.scale_bar.show_stack(self.document.stack)
            self.scale_bar.show()
            self.scale_bar.step.setFocus()

    def _change_options(self, **change: object) -> None:
        self._set_options(self.surface.reconstruction.value().model_copy(update=change))

    def _set_options(self, options: ReconstructionOptions) -> None:
        """What the user chose holds everywhere: for the next stack, the next capture and from now on."""
        self.settings.reconstruction = options
        self.capture.reconstruction.show_value(options)
        self._show_options(options)

    def _show_options(self, options: ReconstructionOptions) -> None:
        """Of the stack that is open: its map may have been made with others than the user's own."""
        self.surface.reconstruction.show_value(options)
        self.actions_by_name["align"].setChecked(options.align != "none")
        self.actions_by_name["smooth"].setChecked(options.regularisation > 0)

    def tell(self, text: str) -> None:
        self.bars.show_look("", text)

    def show_error(self, source: str, error: Exception) -> None:
        """A fault of a device or a task: the text is for the user where we wrote it, and in the log otherwise."""
        if isinstance(error, ReliefscopeError):
            text = str(error)
        else:
            text = _("Something unexpected went wrong ({kind}: {error}). The log has the details.").format(
                kind=type(error).__name__, error=error
            )
        if isinstance(error, CameraError | StageError):
            self.faults.show(source, text, error)
        elif isinstance(error, ReliefscopeError):
            self.bars.show_fault(source, text)
        else:
            self.bars.show_fault(source, text, (_("Open Log Folder"), open_log_folder))

    # --- stop and cancel

    def stop(self) -> None:
        """Esc and the red button."""
        self.link.stop()

    # --- readings

    def _show_document(self) -> None:
        has_stack, has_map = self.document.stack is not None, self.document.height_map is not None
        self.actions_by_name.enable(has_stack, "reconstruct", "set_scale")
        self.actions_by_name.enable(has_stack or has_map, "close")
        self.actions_by_name.enable(has_map, "export")
        title = self.document.title
        self.setWindowTitle(f"{title} – Reliefscope" if title else "Reliefscope")
        if not has_stack:
            self.scale_bar.hide()

    def _show_stopped(self) -> None:
        stopped = self.link.is_stopped
        self.top.show_stopped(stopped)
        if self._stop_bar is not None:
            self._stop_bar.dismiss()
            self._stop_bar = None
        if stopped:
            self._stop_bar = self.bars.show_fault(
                self.link.device.stage_name if self.link.device else "",
                _("The stage is stopped and stays so until you release it."),
                (_("Release"), self.link.release),
            )

    # --- leaving

    def closeEvent(self, event: QCloseEvent) -> None:
        if self.link.busy == "capture" and not may_end_capture(self):
            event.ignore()
            return
        remember_geometry(self.settings, self)
        remember_layouts(self.settings, self._pages_with_panels())
        if self._remember:
            save_settings(self.settings)
        self.hide()  # threads may need seconds to end; nobody has to look at a window that does not answer
        self.gamepad.close()
        self.run.close()
        self.search.close()
        self.link.close()
        self.surface.close_threads()
        self.opening.close()
        super().closeEvent(event)


def open_log_folder() -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(log_folder())))
