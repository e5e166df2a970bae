"""Threads. They hold no logic: a function goes in, its result comes out as a Qt signal in the window thread.

Two kinds. A :class:`Worker` computes: it keeps only the newest job, because the result of an older one
would be thrown away anyhow. A :class:`DeviceThread` owns one device: every job runs, one after the other,
and between the jobs an idle function may be called again and again (the live view).
"""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QObject, Qt, Signal

from models.errors import Cancelled, ReliefscopeError

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""(done, in all)"""
Job = Callable[[Progress, threading.Event], Any]
"""What a Worker runs: reports its progress, looks at the cancel event, raises Cancelled."""

JOIN_SECONDS = 10.0
"""How long closing waits for a thread; long enough for one exposure or one tile of a reconstruction."""
WRITE_SECONDS = 120.0
"""How long closing waits for files that are being written; a disk that hangs must not keep the program for ever."""


class Courier(QObject):
    """Carries calls from any thread into the thread in which it lives: the window's.

    It is the only thing that crosses threads. Signals that others may connect to and disconnect from are
    emitted on the window's side: PySide does not survive a disconnection while another thread emits.
    """

    _sent = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._sent.connect(self._run, Qt.ConnectionType.QueuedConnection)

    def send(self, function: Callable[..., Any], *values: Any) -> None:
        """Have ``function(*values)`` called soon."""
        self._sent.emit((function, values))

    def _run(self, call: tuple[Callable[..., Any], tuple[Any, ...]]) -> None:
        function, values = call
        function(*values)


@dataclass(frozen=True)
class _Order:
    title: str
    job: Job
    then: Callable[[Any], None]
    cancel: threading.Event


class Worker(QObject):
    """One thread for computations. A new job cancels the running one and replaces those that wait,
    unless ``keep_all``: then every job gets its turn, as it must where files are written.

    ``title``: what is being done now, as shown to the user; empty while nothing is.
    """

    started = Signal()
    progressed = Signal(int, int)
    ended = Signal()
    failed = Signal(object)

    def __init__(self, name: str, parent: QObject | None = None, *, keep_all: bool = False) -> None:
        super().__init__(parent)
        self.title = ""
        self._keep_all = keep_all
        self._courier = Courier(self)
        self._condition = threading.Condition()
        self._waiting: deque[_Order] = deque()
        self._running: _Order | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, title: str, job: Job, then: Callable[[Any], None]) -> None:
        """Run ``job`` soon; call ``then`` with its result in the window thread, unless it was cancelled."""
        with self._condition:
            if not self._keep_all:
                self._cancel_all()
            self._waiting.append(_Order(title, job, then, threading.Event()))
            self._condition.notify()

    def rename(self, title: str) -> None:
        """For the running job, any thread: it has come to a part with another title."""
        self._courier.send(self._tell, title)

    def cancel(self) -> None:
        """End the running job and forget what waits; nothing is delivered."""
        with self._condition:
            self._cancel_all()

    def close(self) -> None:
        """Cancel, and wait for the thread. With ``keep_all`` what waits is finished first."""
        with self._condition:
            self._closing = True
            if not self._keep_all:
                self._cancel_all()
            self._condition.notify()
        self._thread.join(WRITE_SECONDS if self._keep_all else JOIN_SECONDS)

    def _cancel_all(self) -> None:
        if self._running is not None:
            self._running.cancel.set()
        self._waiting.clear()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: bool(self._waiting) or self._closing)
                if not self._waiting:
                    return
                order = self._running = self._waiting.popleft()
            self._courier.send(self._tell, order.title)
            try:
                result = order.job(self._report, order.cancel)
            except Cancelled:
                pass
            except Exception as error:
                if not order.cancel.is_set():
                    _record(error)
                    self._courier.send(self.failed.emit, error)
            else:
                self._courier.send(self._deliver, result, order)
            self._courier.send(self._tell, "")

    def _tell(self, title: str) -> None:
        self.title = title
        (self.started if title else self.ended).emit()

    def _report(self, done: int, total: int) -> None:
        self._courier.send(self.progressed.emit, done, total)

    def _deliver(self, result: Any, order: _Order) -> None:
        # Looked at here, in the window thread: between the end of a job and now a newer one may have come.
        if not order.cancel.is_set():
            order.then(result)


class DeviceThread(QObject):
    """The one thread that talks to a device. Errors of jobs and of the idle function come out of ``failed``.

    ``idle`` is called in the device's thread while no job waits, and not again after it failed until
    :meth:`set_idle` is called anew.
    """

    failed = Signal(object)

    def __init__(self, name: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._courier = Courier(self)
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def post(self, job: Callable[[], None]) -> None:
        """Run ``job`` after those that wait already."""
        self._jobs.put(job)

    def set_idle(self, idle: Callable[[], None] | None) -> None:
        """What to do between jobs; None to sleep until the next one."""
        self.post(lambda: setattr(self, "_idle", idle))

    def close(self) -> None:
        """Finish the jobs that wait, then end the thread and wait for it."""
        self._jobs.put(None)
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(block=self._idle is None)
            except queue.Empty:
                job = self._idle
            if job is None:
                return
            try:
                job()
            except Cancelled:
                pass
            except Exception as error:
                if job is self._idle:
                    self._idle = None
                _record(error)
                self._courier.send(self.failed.emit, error)


class Latest:
    """A place for one value, handed from one thread to another: an unread value is replaced.

    ``put`` says whether the place was empty, so that the reader is woken once per value it will see.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value: Any = None

    def put(self, value: Any) -> bool:
        with self._lock:
            was_empty = self._value is None
            self._value = value
            return was_empty

    def take(self) -> Any:
        """The newest value, or None."""
        with self._lock:
            value, self._value = self._value, None
            return value


def _record(error: Exception) -> None:
    """What a person is told anyhow needs one line; anything else is a defect and keeps its traceback."""
    if isinstance(error, ReliefscopeError):
        log.warning("%s: %s", threading.current_thread().name, error)
    else:
        log.error("%s failed", threading.current_thread().name, exc_info=error)
