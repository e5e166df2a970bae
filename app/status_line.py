"""The line at the foot of the window. Every reading has its place and width, so that nothing jumps."""

import shutil
import time
from pathlib import Path

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QProgressBar, QToolButton, QWidget

from app.theme import set_role, tabular
from models.language import _

DISK_CHECK_MS = 5000
LOW_SPACE = 5e9


class Reading(QLabel):
    """A number that changes, as wide as ``widest``."""

    def __init__(self, widest: str, tip: str) -> None:
        super().__init__()
        self.setFont(tabular(self.font()))
        self.setToolTip(tip)
        self._widest = widest
        self._fit()

    def _fit(self) -> None:
        self.setFixedWidth(self.fontMetrics().horizontalAdvance(self._widest) + 4)


class StatusLine(QFrame):
    """z, progress with time left and Cancel, exposure, frame rate, free disk space, device."""

    diskLookedAt = Signal()
    """Every few seconds: what depends on the free space may have changed."""

    def __init__(self, cancel: QAction) -> None:
        super().__init__()
        set_role(self, "status")
        self.z = Reading("z −88 888.88 µm", _("Measured height of the plane in focus"))
        self.task = QLabel()
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedWidth(180)
        self.count = Reading("8888/8888", _("Frames done"))
        self.left = Reading(_("{time} left").format(time="88 min 88 s"), _("Time left"))
        self._cancel_button = QToolButton()
        self._cancel_button.setDefaultAction(cancel)
        self._cancel_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        set_role(self._cancel_button, "flat")
        self.exposure = Reading("8888.88 ms", _("Exposure time"))
        self.fps = Reading("888 fps", _("Pictures per second in the live view"))
        self.disk = Reading(_("{size} free").format(size="888.8 GB"), _("Free space where captures are kept"))
        self.device = QLabel()
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 3, 12, 3)
        row.setSpacing(14)
        for widget in (self.z, self.task, self.progress, self.count, self.left, self._cancel_button):
            row.addWidget(widget)
        row.addStretch(1)
        for widget in (self.exposure, self.fps, self.disk, self.device):
            row.addWidget(widget)
        self.setFixedHeight(32)
        self._started_s = 0.0
        self._folder = Path()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._look_at_disk)
        self._timer.start(DISK_CHECK_MS)
        self.show_height(None)
        self.show_camera(None, None)
        self.show_device("")
        self.end_task()

    def show_height(self, z_um: float | None) -> None:
        self.z.setText(f"z {number(z_um, 2)} µm" if z_um is not None else "z —")

    def show_camera(self, exposure_ms: float | None, fps: float | None) -> None:
        self.exposure.setText(f"{exposure_ms:.2f} ms" if exposure_ms is not None else "")
        self.fps.setText(f"{fps:.0f} fps" if fps else "")

    def show_device(self, name: str) -> None:
        self.device.setText(name or _("no microscope"))
        set_role(self.device, "" if name else "hint")

    def watch_disk(self, folder: Path) -> None:
        self._folder = folder
        self._look_at_disk()

    def start_task(self, title: str) -> None:
        self._started_s = time.monotonic()
        self.task.setText(title)
        self.progress.setRange(0, 0)
        self.count.setText("")
        self.left.setText("")
        self._task_visible(True)

    def show_progress(self, done: int, total: int) -> None:
        if total <= 0 or not self.task.text():
            return
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        self.count.setText(f"{done}/{total}")
        elapsed_s = time.monotonic() - self._started_s
        if done and elapsed_s > 0.5:
            self.left.setText(_("{time} left").format(time=duration(elapsed_s / done * (total - done))))

    def end_task(self) -> None:
        self.task.setText("")
        self._task_visible(False)

    def _task_visible(self, visible: bool) -> None:
        shown: tuple[QWidget, ...] = (self.task, self.progress, self.count, self.left, self._cancel_button)
        for widget in shown:
            widget.setVisible(visible)

    def _look_at_disk(self) -> None:
        free = free_bytes(self._folder)
        self.disk.setText(_("{size} free").format(size=data_size(free)))
        set_role(self.disk, "amber" if free < LOW_SPACE else "")
        self.diskLookedAt.emit()


def free_bytes(folder: Path) -> int:
    """Free space on the disk that holds, or will hold, ``folder``."""
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:  # not made yet, unplugged, or not ours to read: the folder above it says it as well
            continue
    return 0


def number(value: float, digits: int) -> str:
    """1234.5 as "1 234.50", with thin no-break spaces between thousands and a true minus sign."""
    return f"{value:,.{digits}f}".replace(",", "\u202f").replace("-", "−")


def duration(seconds: float) -> str:
    """8 s, 2 min 05 s, 1 h 10 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return _("{s} s").format(s=whole)
    if whole < 3600:
        return _("{min} min {s:02d} s").format(min=whole // 60, s=whole % 60)
    return _("{h} h {min:02d} min").format(h=whole // 3600, min=whole % 3600 // 60)


def data_size(size: float) -> str:
    """Bytes for people: 1.2 TB, 340 MB."""
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.5:
            return f"{size:.1f} {unit}" if size < 99.95 else f"{size:.0f} {unit}"
    return f"{size / 1000:.1f} TB"
