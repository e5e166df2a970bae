"""The process around the window: Qt set up in the right order, the log, Ctrl+C, unexpected errors."""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from types import TracebackType

from PySide6.QtCore import QCoreApplication, QLibraryInfo, Qt, QTimer, QTranslator
from PySide6.QtGui import QFont, QIcon
from PySide6.QtWidgets import QApplication

from app.settings import log_folder
from app.theme import ICONS

log = logging.getLogger(__name__)

LOG_BYTES, LOG_FILES = 1_000_000, 3
WAKE_MS = 200


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


def prepare_qt_for(code: str) -> None:
    """Qt's own texts - the buttons of its dialogs, the menus of its fields - and its letters in a language."""
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    font = app.font()
    # Hinting makes the dense characters of Chinese look bold, bright on dark above all.
    is_dense = code.startswith("zh")
    font.setHintingPreference(
        QFont.HintingPreference.PreferNoHinting if is_dense else QFont.HintingPreference.PreferDefaultHinting
    )
    app.setFont(font)
    for old in app.findChildren(QTranslator):
        app.removeTranslator(old)
        old.deleteLater()
    translator = QTranslator(app)
    if translator.load(f"qtbase_{code}", QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath)):
        app.installTranslator(translator)


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
