"""From the last frame of a capture to its final map on the screen, and how freely the window answers meanwhile.

The real window on the simulated microscope: 20 frames of 512 x 512, by the live network and by a focus measure in turn.
A timer of 5 ms beats in the window's thread; what the work leaves of its beats is the figure.
"""

import os
import statistics
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from PySide6.QtCore import QCoreApplication, Qt, QTimer
from PySide6.QtWidgets import QApplication

from app.capture.stack_panel import StackSetup
from app.main_window import MainWindow
from app.settings import Settings
from models.language import use_language
from models.methods import LIVE_NETWORK
from models.networks.weights import shipped_weights

FRAMES, ROUNDS = 20, 7
BEAT_MS = 5
LONG_S = 60.0

pytestmark = [
    pytest.mark.skipif(not os.environ.get("DISPLAY"), reason="needs a display, as xvfb-run gives one"),
    pytest.mark.skipif(shipped_weights(LIVE_NETWORK) is None, reason=f"no weights of {LIVE_NETWORK} are shipped"),
]


@pytest.fixture(scope="session")
def qapp_cls() -> type[QApplication]:
    QCoreApplication.setAttribute(Qt.ApplicationAttribute.AA_ShareOpenGLContexts)
    return QApplication


@pytest.fixture
def window(qtbot, tmp_path: Path, monkeypatch) -> Iterator[MainWindow]:
    monkeypatch.setenv("RELIEFSCOPE_HOME", str(tmp_path))
    use_language("en")
    window = MainWindow(Settings(profile="simulated"), remember=False)
    window.resize(1366, 768)
    window.show()
    qtbot.waitExposed(window)
    window.actions_by_name["connect"].trigger()
    wait_for(lambda: window.link.device is not None and not window.link.busy)
    yield window
    window.close()
    window.deleteLater()


class Heart:
    """Counts the beats of a timer in the window's thread."""

    def __init__(self) -> None:
        self.beats_s: list[float] = []
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(lambda: self.beats_s.append(time.monotonic()))
        self._timer.start(BEAT_MS)

    def rate(self, begun_s: float, ended_s: float) -> float:
        """Beats per second between two moments."""
        return sum(begun_s <= beat <= ended_s for beat in self.beats_s) / (ended_s - begun_s)

    def longest_gap_s(self, begun_s: float, ended_s: float) -> float:
        times = [begun_s, *(beat for beat in self.beats_s if begun_s <= beat <= ended_s), ended_s]
        return max(later - earlier for earlier, later in pairwise(times))


def wait_for(condition) -> None:
    end_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end_s, "nothing happens"
        QApplication.processEvents()
        time.sleep(0.001)


def capture(window: MainWindow, method: str) -> dict[str, float]:
    """One capture: seconds from its last frame to the painted final map, beats per second, the longest gap."""
    window._change_options(method=method)
    window.capture.stack.set_value(StackSetup(6.0, -34.0, by_step=False, frame_count=FRAMES))
    wait_for(window.actions_by_name["start"].isEnabled)
    heart, begun_s = Heart(), time.monotonic()
    window.actions_by_name["start"].trigger()
    painted: list[float] = []
    window.capture.surface.scene.frameSwapped.connect(
        lambda: painted.append(time.monotonic()) if window.run.final is not None else None
    )
    last_frame_s = 0.0

    def is_painted() -> bool:
        nonlocal last_frame_s
        if window.run._map is not None:
            last_frame_s = window.run._map.last_frame_s
        return bool(painted)

    wait_for(is_painted)
    window.capture.surface.scene.frameSwapped.disconnect()
    assert window.run.final.method == method
    assert window.run.final.shape == (512, 512)
    wait_for(lambda: not window.link.busy and window.opening.worker.title == "")
    return {
        "latency_s": painted[0] - last_frame_s,
        "rate": heart.rate(begun_s, painted[0]),
        "rate_at_the_end": heart.rate(last_frame_s, painted[0]),
        "gap_s": heart.longest_gap_s(begun_s, painted[0]),
    }


def test_live_network(window, benchmark) -> None:
    methods = (LIVE_NETWORK, "mdml")
    for method in methods:  # the network is loaded, the caches are warm
        capture(window, method)
    found: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
    for _round in range(ROUNDS):
        for method in methods:
            found[method].append(capture(window, method))
    benchmark.pedantic(capture, args=(window, LIVE_NETWORK), rounds=1)
    print()
    for method, runs in found.items():
        middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        print(
            f"{method}: last frame to final map on the screen {1000 * middle['latency_s']:.0f} ms "
            f"({1000 * min(run['latency_s'] for run in runs):.0f} at best); window {middle['rate']:.0f} beats/s, "
            f"{middle['rate_at_the_end']:.0f} after the last frame, longest gap {1000 * middle['gap_s']:.0f} ms"
        )
        benchmark.extra_info[method] = middle
    ours = found[LIVE_NETWORK]
    assert statistics.median(run["latency_s"] for run in ours) <= 0.1
    assert statistics.median(run["rate"] for run in ours) >= 30
