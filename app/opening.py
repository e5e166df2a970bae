"""Opening stacks, reconstructing and saving what is open: the jobs between the document and the files."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray
from PySide6.QtCore import QObject, Signal

from app.document import Document
from app.workers import Progress, Worker
from models import storage
from models.atomic import replacing
from models.errors import Cancelled, InputError, OutputError, ReliefscopeError
from models.focal_stack import FocalStack
from models.formats import STACK_SUFFIXES, read_stack, write_height_map
from models.height_map import HeightMap, without_weak
from models.language import _
from models.live import prepare
from models.methods import ReconstructionOptions, find_method
from models.reconstruct import reconstruct

log = logging.getLogger(__name__)

RECONSTRUCTION = "main"


class Opening(QObject):
    """Reads, computes and writes in a background thread; only the newest wish counts.

    ``opened``: the path of a stack or height map that is now in the document. ``saved``: the path of an exported file.
    """

    opened = Signal(object)
    saved = Signal(object)
    failed = Signal(object)

    def __init__(self, document: Document, options: Callable[[], ReconstructionOptions], parent: QObject) -> None:
        super().__init__(parent)
        self._document, self._options = document, options
        self.worker = Worker("reconstruction", self)
        self.writer = Worker("files", self, keep_all=True)
        self.worker.failed.connect(self.failed)
        self.writer.failed.connect(self.failed)

    def close(self) -> None:
        self.worker.close()
        self.writer.close()

    def open(self, path: Path) -> None:
        """Read a stack; reconstruct it where the file does not bring a height map. Or read a height map alone."""

        def job(progress: Progress, cancel: threading.Event) -> tuple[FocalStack | None, HeightMap | None]:
            if _is_map_only(path):
                return None, storage.load_reconstruction(path, RECONSTRUCTION)
            stack = read_stack(path)
            if cancel.is_set():
                raise Cancelled
            return stack, _stored_map(path)

        self.worker.submit(_("Opening {name}").format(name=path.name), job, lambda result: self._show(path, *result))

    def _show(self, path: Path, stack: FocalStack | None, height_map: HeightMap | None) -> None:
        self._document.set_stack(stack, path)
        if height_map is not None:
            self._document.set_height_map(height_map)
        self.opened.emit(path)
        if height_map is None:
            self.reconstruct()

    def reconstruct(self, options: ReconstructionOptions | None = None) -> None:
        """Compute the height map of the open stack, with the user's options unless others are given."""
        stack, options = self._document.stack, options or self._options()
        if stack is None:
            return
        needs_network = find_method(options.method).kind == "network"

        def job(progress: Progress, cancel: threading.Event) -> HeightMap:
            if needs_network:
                prepare(options)
                self.worker.rename(_("Reconstructing"))
            return reconstruct(stack, options, progress=progress, cancel=cancel)

        def then(height_map: HeightMap) -> None:
            if self._document.stack is stack:
                self._document.set_height_map(height_map)
                self.keep()
            elif self._document.stack is not None:
                self._document.take_map_of(stack, height_map)

        self.worker.submit(_("Loading the network …") if needs_network else _("Reconstructing"), job, then)

    def take_capture(
        self, path: Path, height_map: HeightMap | None, still_wanted: ReconstructionOptions | None = None
    ) -> None:
        """Open a stack that was just captured, with the map that grew meanwhile.

        ``still_wanted``: a stand-in grew that map; reconstruct with these options now that all frames are there.
        """

        def job(progress: Progress, cancel: threading.Event) -> tuple[FocalStack, ReliefscopeError | None]:
            problem = None
            if height_map is not None:
                try:
                    storage.save_reconstruction(path, height_map, RECONSTRUCTION)
                except ReliefscopeError as error:  # on a full disk, say: the stack is there all the same
                    log.warning("The height map of %s cannot be saved: %s", path, error)
                    problem = error
            return storage.open_stack(path), problem

        def then(result: tuple[FocalStack, ReliefscopeError | None]) -> None:
            stack, problem = result
            self._show(path, stack, height_map)
            if problem is not None:
                self.failed.emit(problem)
            if height_map is not None and still_wanted is not None:
                self.reconstruct(still_wanted)

        self.worker.submit(_("Saving the height map"), job, then)

    def keep(self) -> None:
        """Store the height map beside its stack, where that is a file of ours."""
        path, height_map = self._document.path, self._document.height_map
        if path is None or height_map is None or path.suffix.lower() != ".h5":
            return

        def job(progress: Progress, cancel: threading.Event) -> None:
            storage.save_reconstruction(path, height_map, RECONSTRUCTION)

        self.writer.submit(_("Saving the height map"), job, lambda _nothing: None)

    def export(self, path: Path, *, least_confidence: float = 0.0, **options: Any) -> None:
        """Write the height map in the format of the suffix, with holes where it is less confident than that."""
        height_map = self._document.height_map
        if height_map is None:
            return

        def job(progress: Progress, cancel: threading.Event) -> Path:
            shown = without_weak(height_map, least_confidence) if least_confidence > 0 else height_map
            write_height_map(shown, path, **options)
            return path

        self.writer.submit(_("Writing {name}").format(name=path.name), job, self.saved.emit)

    def save_picture(self, path: Path, image: NDArray[Any]) -> None:
        """Write an image (H, W[, 3]) as it is."""

        def job(progress: Progress, cancel: threading.Event) -> Path:
            with replacing(path) as temporary:
                order = image if image.ndim == 2 else image[..., ::-1]
                if not cv2.imwrite(str(temporary), order):
                    raise OutputError(_("{path} cannot be written.").format(path=path))
            return path

        self.writer.submit(_("Writing {name}").format(name=path.name), job, self.saved.emit)

    def recover(self, path: Path) -> None:
        """Make an interrupted capture a regular stack, and open it."""

        def job(progress: Progress, cancel: threading.Event) -> FocalStack:
            return storage.recover(path)

        def then(stack: FocalStack) -> None:
            self._show(path, stack, None)

        self.worker.submit(_("Recovering {name}").format(name=path.name), job, then)

    def find_interrupted(self, folder: Path, then: Callable[[list[Path]], None]) -> None:
        """Look for captures that were never completed."""

        def job(progress: Progress, cancel: threading.Event) -> list[Path]:
            return storage.find_interrupted(folder) if folder.is_dir() else []

        self.writer.submit("", job, then)


def can_open(path: Path) -> bool:
    """Whether a dropped file or folder looks like a stack."""
    return path.is_dir() or path.suffix.lower() in STACK_SUFFIXES


def check_can_open(path: Path) -> None:
    """Raises InputError, before anything starts, for what cannot be a stack."""
    if not path.exists():
        raise InputError(_("{path} is not there.").format(path=path))
    if not can_open(path):
        raise InputError(
            _("{path} is not a stack. Stacks are folders of images and files with these suffixes: {suffixes}.").format(
                path=path, suffixes=", ".join(sorted(STACK_SUFFIXES))
            )
        )


def _is_map_only(path: Path) -> bool:
    """Whether this is a file of ours with a height map but without the stack, as an export makes it."""
    return path.suffix.lower() in storage.SAMPLE_SUFFIXES and path.is_file() and not storage.has_stack(path)


def _stored_map(path: Path) -> HeightMap | None:
    """The reconstruction that a file of ours brings along."""
    if path.suffix.lower() not in storage.SAMPLE_SUFFIXES:
        return None
    try:
        if RECONSTRUCTION in storage.reconstruction_names(path):
            return storage.load_reconstruction(path, RECONSTRUCTION)
    except ReliefscopeError as error:
        log.warning("The stored height map of %s cannot be read: %s", path, error)
    return None
