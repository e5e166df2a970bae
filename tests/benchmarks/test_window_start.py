"""From the command to the first painted window, beside the least that Qt and pyqtgraph need for one.

Each start is a process of its own; the figure is the wall time until its window has painted and answered.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

BARE = """
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
import pyqtgraph
app = QApplication([])
window = pyqtgraph.GraphicsLayoutWidget()
window.addPlot()
window.show()
QTimer.singleShot(0, app.quit)
app.exec()
"""
OURS = """
from PySide6.QtCore import QTimer
from app import main_window
build = main_window.MainWindow.showEvent
def seen(window, event):
    build(window, event)
    QTimer.singleShot(0, window.close)
main_window.MainWindow.showEvent = seen
from app.cli import main
main()
"""
STARTS = 5


def start_s(code: str, home: Path) -> float:
    environment = {**os.environ, "RELIEFSCOPE_HOME": str(home)}
    begun_s = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, cwd=Path(__file__).resolve().parents[2], timeout=120
    )
    return time.perf_counter() - begun_s


@pytest.mark.skipif(not os.environ.get("DISPLAY"), reason="needs a display, as xvfb-run gives one")
def test_window_start(benchmark, tmp_path: Path) -> None:
    """Alternating starts, so that a busy machine hits both alike; the ratio of the medians is the figure."""
    ours, bare = [], []
    for _ in range(STARTS):
        bare.append(start_s(BARE, tmp_path))
        ours.append(start_s(OURS, tmp_path))
    benchmark.pedantic(start_s, args=(OURS, tmp_path), rounds=1)
    ratio = statistics.median(ours) / statistics.median(bare)
    benchmark.extra_info["ratio to a bare pyqtgraph window"] = round(ratio, 2)
    print(
        f"\nReliefscope usable after {statistics.median(ours):.2f} s, "
        f"a bare PySide6 + pyqtgraph window after {statistics.median(bare):.2f} s: ratio {ratio:.2f}"
    )
