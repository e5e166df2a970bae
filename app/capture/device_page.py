"""The page on which a microscope is found, described, saved and connected. It blocks nothing."""

import re
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from app.capture.device_search import DeviceSearch
from app.capture.link import MicroscopeLink
from app.capture.profile_form import ProfileForm
from app.fields import hint
from app.settings import profiles_folder
from app.theme import set_role
from hardware.camera import CameraIdentity
from hardware.profile import Profile, ProfileFieldError, load_profile, save_profile
from hardware.stages.registry import FoundStage
from models.errors import OutputError, ReliefscopeError
from models.language import _

FOUND_WIDTH = 330
WIDTH, HEIGHT = 1180, 690
DATA = Qt.ItemDataRole.UserRole


class DevicePage(QDialog):
    """Searching only asks; nothing moves here, and nothing is connected before its button is pressed.

    ``profile``: the microscope to begin with. ``on_escape`` is told of Esc, which also means STOP.
    """

    saved = Signal(object)
    """The path of the profile."""
    connectRequested = Signal()

    def __init__(
        self, parent: QWidget, search: DeviceSearch, link: MicroscopeLink, profile: str, on_escape: Callable[[], None]
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(_("Devices"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        set_role(self, "page")
        self._search, self._link, self._on_escape = search, link, on_escape
        self._own_path: Path | None = None
        self._may_replace: Path | None = None
        self._items: dict[FoundStage | CameraIdentity, QTreeWidgetItem] = {}
        self.found = QTreeWidget()
        self.port = QLineEdit()
        self.search = QPushButton(_("Search"))
        self.cancel = QPushButton(_("Cancel"))
        self.progress = QProgressBar()
        self.asking = hint()
        self.reasons = hint()
        self.form = ProfileForm(self._start_with(profile))
        if self._own_path is None:  # the name of a microscope that comes along would not fit to what is found
            self.form.title.clear()
        self.message = QLabel()
        self.save = QPushButton(_("Save"))
        self.save_and_connect = QPushButton(_("Save and Connect"))
        self._arrange()
        self.search.clicked.connect(self.start_search)
        self.port.returnPressed.connect(self.start_search)
        self.cancel.clicked.connect(search.worker.cancel)
        self.found.itemActivated.connect(self._use)
        self.found.itemClicked.connect(self._use)
        self.save.clicked.connect(lambda: self.save_profile())
        self.save_and_connect.clicked.connect(self._connect_saved)
        search.ended.connect(self._show_found)
        search.worker.started.connect(self._show_searching)
        search.worker.ended.connect(self._show_searching)
        search.worker.progressed.connect(self._show_progress)
        link.busyChanged.connect(self._show_busy)
        self._show_found()
        self._show_searching()
        self._show_busy()

    def _start_with(self, name: str) -> Profile:
        try:
            profile = load_profile(name or "simulated")
        except ReliefscopeError:  # the list of microscopes has told of it already
            return load_profile("simulated")
        if Path(name).parent == profiles_folder():
            self._own_path = Path(name)
        return profile

    def _arrange(self) -> None:
        self.found.setHeaderHidden(True)
        self.found.setRootIsDecorated(False)
        self.found.setIndentation(14)
        self.found.setWordWrap(True)
        self.found.setAccessibleName(_("What was found"))
        self.port.setPlaceholderText(_("all ports, or one: COM3, /dev/ttyUSB0"))
        self.port.setAccessibleName(_("Port to ask"))
        self.progress.setTextVisible(False)
        for button in (self.search, self.cancel, self.save, self.save_and_connect):
            button.setAutoDefault(False)
        set_role(self.save_and_connect, "primary")
        self.message.setWordWrap(True)
        set_role(self.message, "red")

        left = QVBoxLayout()
        left.setSpacing(8)
        heading = QLabel(_("1. What is connected"))
        set_role(heading, "heading")
        left.addWidget(heading)
        left.addWidget(hint(_("Every port is asked who is there. Questions only: nothing moves.")))
        row = QHBoxLayout()
        row.addWidget(self.port, 1)
        row.addWidget(self.search)
        row.addWidget(self.cancel)
        left.addLayout(row)
        left.addWidget(self.progress)
        left.addWidget(self.asking)
        left.addWidget(self.found, 1)
        left.addWidget(self.reasons)
        side = QWidget()
        side.setLayout(left)
        left.setContentsMargins(0, 0, 0, 0)
        side.setFixedWidth(FOUND_WIDTH)

        scroll = QScrollArea()
        scroll.setWidget(self.form)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        right = QVBoxLayout()
        right.setSpacing(8)
        heading = QLabel(_("2. Your microscope"))
        set_role(heading, "heading")
        right.addWidget(heading)
        right.addWidget(hint(_("Check the limits before the first move: the stage never leaves them.")))
        right.addWidget(scroll, 1)
        foot = QHBoxLayout()
        foot.addWidget(self.message, 1)
        foot.addWidget(self.save)
        foot.addWidget(self.save_and_connect)
        right.addLayout(foot)
        whole = QHBoxLayout(self)
        whole.setContentsMargins(16, 14, 16, 14)
        whole.setSpacing(20)
        whole.addWidget(side)
        whole.addLayout(right, 1)
        self.resize(WIDTH, HEIGHT)

    # --- searching

    def start_search(self) -> None:
        """Ask on the port that is typed, else on all."""
        port = self.port.text().strip()
        self._search.start([port] if port else None)

    def _show_searching(self) -> None:
        running = bool(self._search.worker.title)
        self.search.setVisible(not running)
        self.cancel.setVisible(running)
        if running != self.progress.isVisibleTo(self):
            self.progress.setRange(0, 0)
        self.progress.setVisible(running)
        self.asking.setVisible(running)
        self.asking.setText(self._search.worker.title)

    def _show_progress(self, done: int, total: int) -> None:
        self.progress.setRange(0, total)
        self.progress.setValue(done)

    def _show_found(self) -> None:
        found = self._search.found
        self.found.clear()
        self._items.clear()
        if found is None:
            self.reasons.setText(_("Plug in stage and camera, switch them on, and press Search."))
            return
        group = self._group(_("Ports"))
        for answer in found.ports:
            stage = answer.stage
            who = f"{stage.driver.title}\n{stage.identity}" if stage else answer.problem or _("nobody answers")
            if self._link.device is not None and answer.port.name in self._link.device.stage_name:
                who = _("connected now")
            self._entry(group, answer.port.name, answer.port.description, who, stage)
        if not found.ports:
            self._entry(group, _("none"), "", _("Is the cable plugged in?"), None)
        group = self._group(_("Cameras"))
        for camera in found.cameras.cameras:
            name = " ".join(filter(None, (camera.vendor, camera.model))) or camera.driver
            self._entry(group, name, camera.serial, camera.driver, camera)
        if not found.cameras.cameras:
            self._entry(group, _("none"), "", "", None)
        self.found.expandAll()
        self.reasons.setText("\n".join(found.cameras.unavailable.values()))
        for devices in (found.stages, found.cameras.cameras):
            if len(devices) == 1:  # what needs no choice is chosen
                self._use(self._items[devices[0]])

    def _group(self, title: str) -> QTreeWidgetItem:
        item = QTreeWidgetItem([title])
        item.setFlags(Qt.ItemFlag.ItemIsEnabled)
        self.found.addTopLevelItem(item)
        return item

    def _entry(
        self, group: QTreeWidgetItem, name: str, plug: str, text: str, device: FoundStage | CameraIdentity | None
    ) -> None:
        item = QTreeWidgetItem([f"{name}  {plug}".rstrip() + (f"\n{text}" if text else "")])
        item.setData(0, DATA, device)
        if device is None:
            item.setFlags(Qt.ItemFlag.NoItemFlags)
        else:
            item.setToolTip(0, _("Click to use it"))
            self._items[device] = item
        group.addChild(item)

    def _use(self, item: QTreeWidgetItem) -> None:
        device = item.data(0, DATA)
        if isinstance(device, FoundStage):
            _mark(item)
            self.form.use_stage(device)
        elif isinstance(device, CameraIdentity):
            _mark(item)
            self.form.use_camera(device)

    # --- saving

    def save_profile(self) -> bool:
        """Check, and write into the user's folder; False where something has to be put right first."""
        title = self.form.title.text().strip()
        if not title:
            self.form.title.setFocus()
            self._say(_("Give the microscope a name."))
            return False
        path = profiles_folder() / f"{_file_name(title)}.toml"
        try:
            profile = self.form.profile(path.stem)
        except ProfileFieldError as error:
            self._say(self.form.show_problem(error))
            return False
        if path.exists() and path not in (self._own_path, self._may_replace):
            self._may_replace = path
            self._say(_("There is a microscope of this name already. Save again to replace it."))
            return False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_profile(profile, path)
        except (OSError, OutputError) as error:
            self._say(str(error))
            return False
        self._own_path, self._may_replace = path, None
        self._say(_("Saved: {path}").format(path=path), role="hint")
        self.saved.emit(path)
        return True

    def _connect_saved(self) -> None:
        if self.save_profile():
            self.connectRequested.emit()
            self.close()

    def _say(self, text: str, role: str = "red") -> None:
        self.message.setText(text)
        set_role(self.message, role)

    def _show_busy(self) -> None:
        self.save_and_connect.setEnabled(not self._link.busy)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self._on_escape()
        super().keyPressEvent(event)


def _mark(item: QTreeWidgetItem) -> None:
    """Of its kind this one is used."""
    group = item.parent()
    for row in range(group.childCount()):
        font = group.child(row).font(0)
        font.setBold(group.child(row) is item)
        group.child(row).setFont(0, font)


def _file_name(title: str) -> str:
    return re.sub(r"[^\w]+", "-", title).strip("-").lower() or "microscope"
