"""The Capture workspace: set up a stack, capture it, watch its height map grow."""

import logging

from PySide6.QtCore import QByteArray, Qt, Signal
from PySide6.QtGui import QAction, QShowEvent
from PySide6.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QMainWindow,
    QScrollArea,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.actions import Actions
from app.capture.camera_panel import CameraPanel
from app.capture.link import MicroscopeLink
from app.capture.live_view import LiveView
from app.capture.map_panel import MapPanel
from app.capture.run import CaptureRun
from app.capture.stack_panel import StackPanel, StackSetup
from app.capture.stage_panel import StagePanel
from app.docks import add_dock, dock_actions
from app.empty_state import EmptyState
from app.fields import Section, hint
from app.settings import Settings, profiles_folder
from app.status_line import free_bytes
from app.surface.reconstruction_panel import ReconstructionPanel
from app.theme import set_role
from app.top_bar import ActionButton
from hardware.autofocus import FocusResult
from hardware.profile import load_profile, profile_names
from models.errors import ReliefscopeError
from models.language import _

log = logging.getLogger(__name__)

COLUMN_WIDTH = 316


class CaptureWorkspace(QWidget):
    """Shows a :class:`MicroscopeLink` and the :class:`CaptureRun` on it; ``told``: a sentence for the user."""

    told = Signal(str)

    def __init__(self, link: MicroscopeLink, run: CaptureRun, actions: Actions, settings: Settings) -> None:
        super().__init__()
        self._link, self._run, self._actions, self._settings = link, run, actions, settings
        self.profile = QComboBox()
        self.camera = CameraPanel(actions)
        self.stage = StagePanel(actions, settings.jog_steps_um, settings.jog_step)
        self.stack = StackPanel(actions, link.estimate, lambda: free_bytes(settings.captures_folder))
        self.reconstruction = ReconstructionPanel()
        self.reconstruction.start.hide()
        self.sample = QLineEdit()
        self.live = LiveView()
        self.map = MapPanel(run)
        self.surface, self.height_image = self.map.surface, self.map.height_image
        self.start = ActionButton(actions["start"], role="primary")
        self.cancel = ActionButton(actions["cancel"])
        self._start_hint = hint()
        self._laid_out = False
        self._desk = QMainWindow()
        self._pages = QStackedWidget()
        self._arrange()
        self._connect()
        self.reconstruction.setValue(settings.reconstruction)
        self.stack.set_value(
            StackSetup(by_step=settings.by_step, step_um=settings.step_um, frame_count=settings.frame_count)
        )
        self._show_device()
        self._show_settings()
        self._show_position()
        self._show_condition()
        self._show_live()
        self._show_drift()

    # --- layout

    def _arrange(self) -> None:
        self.show_profiles(self._settings.profile)
        self.profile.setToolTip(
            _("Which microscope. Your own descriptions belong in {folder}.").format(folder=profiles_folder())
        )
        self.profile.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.profile.setAccessibleName(_("Microscope"))
        self.sample.setPlaceholderText(_("Name of the sample"))
        self.sample.setToolTip(_("The file is named after it and the time"))
        self._connect_button = ActionButton(self._actions["connect"], show_icon=True, text=_("Connect"))
        self._disconnect_button = ActionButton(self._actions["disconnect"], show_icon=True, text=" ")
        devices = ActionButton(self._actions["devices"], role="link", text=_("Find or describe a microscope"))
        microscope = QWidget()
        row = QHBoxLayout(microscope)
        row.setContentsMargins(0, 4, 0, 0)
        row.addWidget(self.profile, 1)
        row.addWidget(self._connect_button)
        row.addWidget(self._disconnect_button)

        column = QWidget()
        set_role(column, "panel")
        inside = QVBoxLayout(column)
        inside.setContentsMargins(12, 8, 12, 12)
        inside.setSpacing(12)
        self.sections = [
            Section(_("Stage"), self.stage),
            Section(_("Stack"), self.stack),
            Section(_("Camera"), self.camera),
            Section(_("Reconstruction"), self.reconstruction),
        ]
        inside.addWidget(microscope)
        inside.addWidget(devices)
        for section in self.sections:
            inside.addWidget(section)
        inside.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(column)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QFrame.Shape.NoFrame)

        foot = QFrame()
        set_role(foot, "status")
        foot_column = QVBoxLayout(foot)
        foot_column.setContentsMargins(12, 8, 12, 10)
        foot_column.setSpacing(8)
        foot_column.addWidget(self.stack.summary)
        foot_column.addWidget(self.sample)
        foot_column.addWidget(self.start)
        foot_column.addWidget(self.cancel)
        foot_column.addWidget(self._start_hint)

        controls = QWidget()
        controls_column = QVBoxLayout(controls)
        controls_column.setContentsMargins(0, 0, 0, 0)
        controls_column.setSpacing(0)
        controls_column.addWidget(scroll, 1)
        controls_column.addWidget(foot)
        controls.setMinimumWidth(COLUMN_WIDTH)

        self._pages.addWidget(
            EmptyState(
                "live",
                _("No microscope connected"),
                _("Connect the microscope on the left, describe yours under Devices, or open a stack that you have: "
                  "a TIFF, an .h5 or a video. You can also drop it here, or a folder of images."),
                actions=(self._actions["connect"], self._actions["devices"], self._actions["open"]),
            )
        )  # fmt: skip
        self._pages.addWidget(self.live)
        self._desk.setCentralWidget(self._pages)

        add_dock(self._desk, "capture-controls", _("Controls"), controls, Qt.DockWidgetArea.LeftDockWidgetArea)
        right = Qt.DockWidgetArea.RightDockWidgetArea
        self._map_dock = add_dock(self._desk, "capture-map", _("Height map"), self.map, right)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(self._desk)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._laid_out:
            self._laid_out = True
            half = (self.width() - COLUMN_WIDTH) // 2
            self._desk.resizeDocks([self._map_dock], [half], Qt.Orientation.Horizontal)

    def save_layout(self) -> QByteArray:
        return self._desk.saveState()

    def restore_layout(self, layout: QByteArray) -> bool:
        self._laid_out = self._desk.restoreState(layout)
        return self._laid_out

    def dock_actions(self) -> list[QAction]:
        """Actions that show and hide the parts, for a menu."""
        return dock_actions(self._desk)

    # --- wiring

    def _connect(self) -> None:
        link, actions = self._link, self._actions
        link.deviceChanged.connect(self._show_device)
        link.settingsChanged.connect(self._show_settings)
        link.moved.connect(self._show_position)
        link.busyChanged.connect(self._show_busy)
        link.stoppedChanged.connect(self._show_busy)
        link.liveChanged.connect(self._show_live)
        link.stage.changed.connect(self._show_condition)
        link.pictureReady.connect(self._show_picture)
        link.focusFound.connect(self._show_focus)
        self._run.started.connect(lambda: self.reconstruction.set_drift(None))
        self._run.grown.connect(self._show_drift)
        self._run.finished.connect(self._show_drift)
        self.stage.jogged.connect(link.jog)
        self.stage.heightChosen.connect(link.move_to)
        self.stage.stepsChanged.connect(self._remember_steps)
        self.live.stepped.connect(self.stage.jog)
        self.camera.settingsChosen.connect(link.apply)
        self.stack.setupChanged.connect(self._on_setup_changed)
        self.stack.summaryChanged.connect(self._show_start)
        self.profile.activated.connect(lambda _index: self.connect_microscope())
        actions.connect_to(
            connect=self.connect_microscope,
            disconnect=link.disconnect,
            live=link.set_live,
            auto_contrast=link.pictures.set_auto_contrast,
            auto_exposure=link.auto_exposure,
            autofocus=self.autofocus,
            start=self.start_capture,
        )

    def show_profiles(self, chosen: str) -> None:
        """Read the list of microscopes again, and choose this one in it."""
        found, self.left_out = _profiles()
        self.profile.clear()
        for name, title in found:
            self.profile.addItem(title, name)
        self.profile.setCurrentIndex(max(0, self.profile.findData(chosen)))

    def connect_microscope(self) -> None:
        """Open the microscope that is chosen in the list."""
        self._settings.profile = self.profile.currentData()
        remembered = self._link.settings.model_copy(
            update={"exposure_ms": self._settings.exposure_ms, "gain": self._settings.gain,
                    "bit_depth": self._settings.bit_depth}
        )  # fmt: skip
        same = "exposure_ms" in self._settings.model_fields_set
        self._link.connect_to(self._settings.profile, remembered if same else None)

    def autofocus(self) -> None:
        """Between the ends of the stack where they are set, otherwise around the present height."""
        device, z_um, setup = self._link.device, self._link.z_um, self.stack.value()
        if device is None or z_um is None:
            return
        low, high = device.limits_um
        if setup.top_um is not None and setup.bottom_um is not None and setup.top_um > setup.bottom_um:
            low, high = max(low, setup.bottom_um), min(high, setup.top_um)
        else:
            low, high = max(low, z_um - FOCUS_RANGE_UM), min(high, z_um + FOCUS_RANGE_UM)
        self._link.focus(low, high, self.depth_of_field_um() or FOCUS_STEP_UM)

    def depth_of_field_um(self) -> float | None:
        device = self._link.device
        if device is None or device.optics is None or device.pixel_um is None:
            return None
        return device.optics.depth_of_field_um(device.pixel_um)

    # --- capture

    def start_capture(self) -> None:
        """Capture the stack as set up, into a new file in the captures folder."""
        plan = self.stack.plan()
        if plan is None:  # the disk has filled since the plan was made: say so
            self.stack.refresh_summary()
            return
        folder, sample = self._settings.captures_folder, self.sample.text().strip()
        self._run.start(plan, folder, sample, self._settings.reconstruction)

    # --- showing

    def _show_device(self) -> None:
        device = self._link.device
        self._pages.setCurrentIndex(0 if device is None else 1)
        self._connect_button.setVisible(device is None)
        self._disconnect_button.setVisible(device is not None)
        self.camera.show_ranges(device.ranges if device else None)
        self.stage.show_limits(device.limits_um if device else None)
        self.stack.show_limits(device.limits_um if device else None)
        self.stack.setEnabled(device is not None)
        self.stack.show_depth_of_field(self.depth_of_field_um())
        if device is None:
            self.live.clear()
        self._show_settings()
        self._show_busy()

    def _show_settings(self) -> None:
        self.camera.show_settings(self._link.settings)
        if self._link.device is not None:
            settings = self._link.settings
            self._settings.exposure_ms, self._settings.gain = settings.exposure_ms, settings.gain
            self._settings.bit_depth = settings.bit_depth
        self.stack.refresh_summary()

    def _show_position(self) -> None:
        self.stage.show_position(self._link.z_um, self._link.target_um)
        self.stack.show_position(self._link.z_um)

    def _show_busy(self) -> None:
        """What can be done now."""
        link, device = self._link, self._link.device
        free = device is not None and not link.busy
        can_move = free and not link.is_stopped
        self._actions.enable(device is None and not link.busy, "connect")
        self._actions.enable(device is not None, "disconnect", "snapshot")
        self._actions.enable(free, "live", "auto_exposure", "set_top", "set_bottom", "use_depth_of_field")
        self._actions.enable(can_move and link.stage.referenced, "stage_up", "stage_down", "go_to", "autofocus")
        self._actions.enable(can_move and link.can_home, "home")
        self._actions.enable(free and bool(link.stage.faults or not link.stage.referenced), "confirm_position")
        self._actions.enable(link.is_stopped, "release")
        self.profile.setEnabled(not link.busy)
        for part in (self.stack, self.camera, self.reconstruction):
            part.setEnabled(link.busy != "capture" and (device is not None or part is self.reconstruction))
        self._show_start()

    def _show_condition(self) -> None:
        link = self._link
        self.stage.show_condition(link.stage.faults, referenced=link.stage.referenced, can_home=link.can_home)
        self._show_busy()

    def _show_start(self) -> None:
        capturing = self._link.busy == "capture"
        ready = self._link.device is not None and not self._link.busy and not self._link.is_stopped
        ready = ready and self._link.stage.referenced
        self._actions.enable(ready and self.stack.plan() is not None, "start")
        self.start.setVisible(not capturing)
        self.cancel.setVisible(capturing)
        self.sample.setEnabled(not capturing)
        reason = ""
        if self._link.device is None:
            reason = _("Connect a microscope first.")
        elif self._link.is_stopped:
            reason = _("The stage is stopped; release it first.")
        elif not self._link.stage.referenced and not capturing:
            reason = _("The stage does not know where it is: home it, or confirm its position.")
        elif not capturing:
            reason = self.stack.problem
        plan = self.stack.plan() if not reason else None
        reason = reason or (plan.note or "" if plan else "")
        self._start_hint.setText(reason)
        self._start_hint.setVisible(bool(reason))

    def _show_live(self) -> None:
        self._actions["live"].setChecked(self._link.live)

    def _show_picture(self) -> None:
        picture = self._link.pictures.take()
        if picture is not None and self._link.device is not None:
            self.live.show_picture(picture, self._link.device.pixel_um)

    def _show_drift(self) -> None:
        if (drift := self._run.drift()) is not None:
            self.reconstruction.set_drift(*drift)

    def _show_focus(self, result: FocusResult) -> None:
        if not result.trusted:
            self.told.emit(_("Autofocus: {reason} The stage is back where it was.").format(reason=result.reason))

    def _on_setup_changed(self, setup: StackSetup) -> None:
        self._settings.by_step, self._settings.step_um = setup.by_step, setup.step_um
        self._settings.frame_count = setup.frame_count
        self.stage.scale.show_stack(setup.top_um, setup.bottom_um)
        self._show_start()

    def _remember_steps(self, steps_um: tuple[float, float, float], step: int) -> None:
        self._settings.jog_steps_um, self._settings.jog_step = steps_um, step


def _profiles() -> tuple[list[tuple[str, str]], list[ReliefscopeError]]:
    """(name or path, title) of the microscopes that come along and of the user's own; what is wrong with the others."""
    found, left_out = [], []
    for name in (*profile_names(), *(str(path) for path in sorted(profiles_folder().glob("*.toml")))):
        try:
            found.append((name, _(load_profile(name).title)))
        except ReliefscopeError as error:
            log.warning("This microscope is left out: %s", error)
            left_out.append(error)
    return found, left_out


FOCUS_RANGE_UM = 100.0
FOCUS_STEP_UM = 5.0
"""Autofocus without a stack set up: so far on either side, in steps of this size where the optics are unknown."""
