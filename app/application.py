"""From the start of the program to its end: Qt set up in the right order, the log, Ctrl+C, unexpected errors."""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType

from PySide6.QtCore import QCoreApplication, Qt, QTimer
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication

from app.capture.demo import Demo, demo_settings
from app.main_window import MainWindow
from app.settings import load_settings, log_folder
from app.theme import ICONS, apply_theme
from app.workers import Courier

log = logging.getLogger(__name__)

LOG_BYTES, LOG_FILES = 1_000_000, 3
WAKE_MS = 200


def run(paths: list[str], demo: bool = False) -> int:
    """Open the window on ``paths`` and stay until it is closed; return the exit code.

    ``demo`` connects the simulated microscope and captures a stack of it into the folder ``demo``, without
    touching the user's settings.
    """
    app = create_application()
    courier = Courier()
    # The inner call runs in the window's thread, and not before there is a window.
    start_log(lambda error: courier.send(lambda: window.show_error("", error)))
    settings = demo_settings() if demo else load_settings()
    apply_theme(app, settings.theme)
    window = MainWindow(settings, remember=not demo)
    window.show()
    for path in paths:
        window.open_path(Path(path))
    if demo:
        Demo(window.capture, window.link)
    with interruptible(app):
        return app.exec()


def create_application() -> QApplication:
    """The one QApplication, prepared for OpenGL views that share their programs."""
    existing = QApplication.instance()
    if isinstance(existing, QApplication):
        return existing
    # Before the application exists: pyqtgraph keeps shader programs that only shared contexts can use.
    QCoreApplication.setAttribute(Qt.ApplicationAttribute.AA_ShareOpenGLContexts)
    app = QApplication(["reliefscope"])
    app.setApplicationName("Reliefscope")
    app.setDesktopFileName("reliefscope")
    app.setWindowIcon(QIcon(str(ICONS / "app.svg")))
    return app


def start_log(tell: Callable[[BaseException], object] = lambda error: None) -> None:
    """Write the log to a file that cannot grow without end, and put every unexpected error into it.

    ``tell`` is called with each of them, in the thread in which it happened.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    handlers[0].setLevel(logging.WARNING)
    try:
        log_folder().mkdir(parents=True, exist_ok=True)
        handlers.append(
            RotatingFileHandler(
                log_folder() / "reliefscope.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
            )
        )
    except OSError as error:
        print(f"reliefscope: no log file: {error}", file=sys.stderr)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s", handlers=handlers
    )

    def record(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is not None and not isinstance(error, SystemExit):
            log.critical("Unexpected error", exc_info=(kind, error, traceback))
            tell(error)

    sys.excepthook = record
    threading.excepthook = lambda args: record(args.exc_type, args.exc_value, args.exc_traceback)


@contextmanager
def interruptible(app: QApplication) -> Iterator[None]:
    """Ctrl+C in the terminal closes the window as a click on its corner does."""
    timer = QTimer()
    timer.timeout.connect(lambda: None)  # gives Python a moment to see the signal
    timer.start(WAKE_MS)
    before = signal.signal(signal.SIGINT, lambda _number, _frame: app.closeAllWindows())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        timer.stop()
