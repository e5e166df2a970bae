"""The log of a training run: one JSON object per line, and curves for TensorBoard where that is installed."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.atomic import replacing, write_error

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = "log.jsonl"
CURVES = "tensorboard"


class Journal:
    """Writes ``log.jsonl`` in ``folder``; what was logged after ``first_step`` is forgotten: it happens again.

    Raises OutputError.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        path = self._path = folder / LOG
        kept = _lines_until(path, first_step) if path.exists() else []
        with replacing(path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()
        self._curves = _curves(folder / CURVES, first_step)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise write_error(self._path, error) from error
        if self._curves is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._curves.add_scalar(name, value, step)

    def close(self) -> None:
        self._file.close()
        if self._curves is not None:
            self._curves.close()


def _lines_until(path: Path, step: int) -> list[str]:
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        # The last line may have been cut off by a kill.
        with contextlib.suppress(ValueError):
            if json.loads(line)["step"] <= step:
                kept.append(line)
    return kept


def _curves(folder: Path, first_step: int) -> "SummaryWriter | None":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_step + 1, flush_secs=30)
