"""The map that grows during a capture: by networks, by what stands in for them, and when they fail or are too slow."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from app.capture import growing_map, taken_frames
from app.capture.growing_map import GrowingMap, HandOver, MapState
from app.capture.map_panel import final_text, growing_text
from app.capture.pace import Pace
from app.capture.stack_panel import StackSetup
from app.capture.taken_frames import TakenFrames
from app.main_window import MainWindow
from models.capture_file import StackWriter
from models.errors import InputError
from models.focal_stack import FocalStack
from models.methods import ReconstructionOptions
from models.networks.streaming import StreamingNetwork
from models.reconstruct import reconstruct
from tests.gui.shell import LONG, bar_texts
from tests.trained import ship

FRAMES = np.random.default_rng(0).integers(0, 255, (12, 48, 64), dtype=np.uint8)
STACK = FocalStack(FRAMES, np.arange(12.0), 0.5)
NET, LIVE = "gplws-net", "gplws-net-live"


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> None:
    ship(monkeypatch, tmp_path / "weights", NET, LIVE)


class Grown:
    """A growing map with everything that it said."""

    def __init__(self, method: str, *, count: int = 12, path: Path | None = None) -> None:
        self.map = GrowingMap(
            ReconstructionOptions(method=method),
            frame_count=count,
            frame_bytes=FRAMES[0].nbytes,
            pixel_um=0.5,
            provenance={},
            path=path,
        )
        self.finals, self.errors = [], []
        self.states: list[MapState] = []
        self.changes: list[HandOver] = []
        self.map.finished.connect(self.finals.append)
        self.map.failed.connect(self.errors.append)
        self.map.stateChanged.connect(self.states.append)
        self.map.handedOver.connect(self.changes.append)

    def feed(self, count: int = 12, spacing_s: float = 0.0) -> None:
        def camera() -> None:
            for index in range(count):
                self.map.add(FRAMES[index], float(index))
                time.sleep(spacing_s)

        threading.Thread(target=camera).start()

    def wait(self, qtbot: QtBot) -> None:
        qtbot.waitUntil(lambda: bool(self.finals or self.errors), timeout=LONG)


@pytest.fixture
def grown():
    made: list[Grown] = []

    def make(method: str, **about: object) -> Grown:
        made.append(Grown(method, **about))
        return made[-1]

    yield make
    for one in made:
        one.map.abandon()


@pytest.mark.parametrize("method", ["mdml", LIVE, NET])
def test_the_final_map_comes_with_the_last_frame_and_is_that_of_the_whole_stack(qtbot, shipped, grown, method):
    one = grown(method)
    one.feed()
    one.wait(qtbot)
    (final,) = one.finals
    whole = reconstruct(STACK, ReconstructionOptions(method=method))
    np.testing.assert_allclose(final.height_um, whole.height_um, atol=1e-3)
    assert not one.changes
    assert one.states[-1] == MapState(method, method)
    assert one.states[0].is_loading == (method != "mdml")
    assert one.map.last_frame_s > 0


def test_a_capture_that_ends_early_has_a_final_map_too(qtbot, shipped, grown):
    one = grown(LIVE, count=100)
    one.feed(5)
    time.sleep(0.1)
    one.map.finish()
    one.wait(qtbot)
    assert one.finals[0].parameters["weights_sha256"]
    short = reconstruct(FocalStack(FRAMES[:5], np.arange(5.0)), ReconstructionOptions(method=LIVE))
    np.testing.assert_allclose(one.finals[0].height_um, short.height_um, atol=1e-3)


def test_one_frame_makes_no_map_and_no_fault(qtbot, shipped, grown):
    one = grown(LIVE, count=3)
    one.feed(1)
    one.map.finish()
    one.map._thread.join(LONG / 1000)
    qtbot.wait(50)
    assert not one.finals
    assert not one.errors


@pytest.mark.parametrize("method", ["rr", "gplws-net-2023"])
def test_what_needs_the_whole_stack_has_a_stand_in(qtbot, shipped, grown, method):
    one = grown(method)
    one.feed()
    one.wait(qtbot)
    assert one.finals[0].method == LIVE
    assert one.states[-1] == MapState(LIVE, method)
    assert not one.changes


def slowed(monkeypatch, *methods: str, seconds: float = 0.25) -> None:
    """Make networks take ``seconds`` per frame."""
    take_in = StreamingNetwork.add_all

    def slow(self: StreamingNetwork, frames: list) -> None:
        take_in(self, frames)
        if self._options.method in methods:
            time.sleep(seconds * len(frames))

    monkeypatch.setattr(StreamingNetwork, "add_all", slow)


def test_a_slow_network_hands_over_to_the_live_one(qtbot, shipped, grown, monkeypatch):
    slowed(monkeypatch, NET)
    one = grown(NET)
    one.feed(spacing_s=0.02)
    one.wait(qtbot)
    assert [(c.slow, c.method, c.reason) for c in one.changes] == [(NET, LIVE, None)]
    assert one.states[-1] == MapState(LIVE, NET)
    whole = reconstruct(STACK, ReconstructionOptions(method=LIVE))
    np.testing.assert_allclose(one.finals[0].height_um, whole.height_um, atol=1e-3)
    assert one.finals[0].method == LIVE


def test_and_that_one_to_a_focus_measure(qtbot, shipped, grown, monkeypatch):
    slowed(monkeypatch, NET, LIVE)
    monkeypatch.setattr(growing_map, "MOST_LAG_S", 0.3)
    one = grown(NET)
    one.feed(spacing_s=0.02)
    one.wait(qtbot)
    assert [(c.slow, c.method) for c in one.changes] == [(NET, LIVE), (LIVE, "mdml")]
    assert np.array_equal(one.finals[0].height_um, reconstruct(STACK, ReconstructionOptions(method="mdml")).height_um)


def test_a_camera_that_is_slower_than_the_network_keeps_it(qtbot, shipped, grown, monkeypatch):
    slowed(monkeypatch, NET, seconds=0.05)
    monkeypatch.setattr(growing_map, "MOST_LAG_S", 0.3)
    one = grown(NET)
    one.feed(spacing_s=0.15)
    one.wait(qtbot)
    assert not one.changes
    assert one.finals[0].method == NET


@pytest.mark.parametrize("when", ["first", "last"])
def test_a_network_that_fails_loses_nothing(qtbot, shipped, grown, monkeypatch, when):
    def broken(self: StreamingNetwork, *_arguments: object) -> None:
        raise RuntimeError("not enough memory: you tried to allocate 1 TB")

    monkeypatch.setattr(StreamingNetwork, "add_all" if when == "first" else "finish", broken)
    one = grown(LIVE)
    one.feed()
    one.wait(qtbot)
    assert [(c.slow, c.method) for c in one.changes] == [(LIVE, "mdml")]
    assert "not enough memory" in str(one.changes[0].reason)
    assert np.array_equal(one.finals[0].height_um, reconstruct(STACK, ReconstructionOptions(method="mdml")).height_um)


def test_damaged_weights_are_said_and_the_map_grows_all_the_same(qtbot, tmp_path, grown, monkeypatch):
    ship(monkeypatch, tmp_path / "weights", LIVE)
    (tmp_path / "weights" / f"{LIVE}.safetensors").write_bytes(b"damaged")
    one = grown(LIVE)
    one.feed()
    one.wait(qtbot)
    assert isinstance(one.changes[0].reason, InputError)
    assert one.finals[0].method == "mdml"


def test_frames_are_gone_through_again_from_the_file_while_it_is_being_captured(tmp_path, monkeypatch):
    monkeypatch.setattr(taken_frames, "KEPT_BYTES", 2 * FRAMES[0].nbytes)
    path = tmp_path / "a.h5"
    taken = TakenFrames(path)
    with StackWriter(path, image_shape=(48, 64), dtype=np.uint8, frame_count=12) as writer:
        for index in range(5):
            writer.append(FRAMES[index], z_um=index, z_requested_um=index, time_s=0)
            taken.append(FRAMES[index], float(index))
        for index in range(5):
            image, z_um = taken[index]
            assert np.array_equal(image, FRAMES[index])
            assert z_um == index
        writer.append(FRAMES[5], z_um=5, z_requested_um=5, time_s=0)
    assert len(taken._kept) == 2


def test_pace(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("app.capture.pace.time.monotonic", lambda: now[0])
    pace = Pace(20)
    for _frame in range(5):
        pace.arrived()
        now[0] += 0.1
    pace.worked(9.0, 1)
    assert pace.expected_lag_s(1) == 0, "the first one is no measure of the others"
    pace.worked(0.9, 3)
    assert pace.expected_lag_s(4) == pytest.approx(16 * 0.3 - 15 * 0.1)
    pace.end()
    assert pace.all_arrived
    assert pace.expected_lag_s(4) == pytest.approx(0.3)
    pace.begin()
    assert pace.expected_lag_s(0) == 0


def test_who_makes_the_map_in_words():
    assert growing_text(MapState(LIVE, LIVE, is_loading=True)) == "Loading the network …"
    assert growing_text(MapState(LIVE, LIVE)) == "growing: GPLWS-Net, live"
    assert growing_text(MapState("mdml", LIVE)).endswith(", for GPLWS-Net, live")
    assert final_text(MapState(LIVE, LIVE), 0.063) == "final: GPLWS-Net, live · 63 ms after the last frame"
    assert final_text(MapState(LIVE, LIVE), 2.5).endswith("2.5 s after the last frame")
    assert final_text(MapState(LIVE, "rr"), 0.1) == "GPLWS-Net, live; Robust focus volume follows in Surface"


# --- in the window


def capture(qtbot: QtBot, window: MainWindow, method: str, frames: int = 8) -> None:
    window._change_options(method=method)
    window.capture.stack.set_value(StackSetup(6.0, -24.0, by_step=False, frame_count=frames))
    with qtbot.waitSignal(window.run.captured, timeout=LONG):
        window.actions_by_name["start"].trigger()
    qtbot.waitUntil(lambda: window.document.height_map is not None, timeout=LONG)


def test_the_window_says_which_network_made_the_map(qtbot, shipped, connected):
    capture(qtbot, connected, LIVE)
    text = connected.capture.map.state.text()
    assert text.startswith("final: GPLWS-Net, live · ")
    assert text.endswith(" after the last frame")
    assert connected.document.height_map.method == LIVE
    assert connected.document.height_map.interval95_um is not None
    connected.actions_by_name["light_theme"].trigger()
    assert connected.capture.map.state.text() == text
    assert not any("too slow" in bar for bar in bar_texts(connected))


def test_the_window_says_so_when_a_network_is_too_slow(qtbot, shipped, connected, monkeypatch):
    slowed(monkeypatch, NET, seconds=1.0)
    capture(qtbot, connected, NET)
    assert any(text.startswith("'GPLWS-Net, accurate' is too slow") for text in bar_texts(connected))
    assert connected.capture.map.state.property("role") == "amber"
    assert "GPLWS-Net, live" in connected.capture.map.state.text()


def test_a_network_without_weights_does_not_cost_the_capture(qtbot, connected, tmp_path, monkeypatch):
    ship(monkeypatch, tmp_path / "none")
    capture(qtbot, connected, NET)
    assert any("'GPLWS-Net, accurate' failed" in text for text in bar_texts(connected))
    assert len(connected.document.stack) == 8
    assert connected.document.height_map.method == "mdml"


def test_a_method_of_the_whole_stack_follows_its_stand_in(qtbot, shipped, connected):
    capture(qtbot, connected, "rr")
    assert "Robust focus volume follows in Surface" in connected.capture.map.state.text()
    qtbot.waitUntil(lambda: connected.document.height_map.method == "rr", timeout=LONG)
    QTest.qWait(50)
