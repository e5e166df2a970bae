"""How long STOP takes to reach each controller while its driver is busy: 200 tries per protocol.

Every driver of the registry is measured as the first table of its own tests opens it. STOP comes in a move, while
another thread asks without a pause, while its read is blocked by a controller that has gone silent, and while it waits
for a pulled cable: then the call is timed, and STOP must be the first word after the cable is back.
"""

import contextlib
import threading
import time
from collections.abc import Callable

import pytest

from hardware.stage import StageDisconnected, StageError
from hardware.stages.registry import DRIVERS
from tests.hardware.stage_behaviour import PATIENCE_S, wait_until
from tests.hardware.test_recognition import table_of

pytestmark = pytest.mark.benchmark

MOVES, QUERIES, BLOCKED_READS, RECONNECTIONS = 40, 75, 80, 5
LIMIT_S = 0.05


@contextlib.contextmanager
def in_a_thread(call: Callable[[], object]):
    """Another thread calls again and again."""
    over = threading.Event()

    def repeat():
        while not over.is_set():
            with contextlib.suppress(StageError):
                call()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(PATIENCE_S)


def arrival_s(stage, emulator, stop_bytes: bytes) -> float:
    emulator.received.clear()
    began_s = time.monotonic()
    stage.stop()
    return emulator.wait_for(stop_bytes, PATIENCE_S) - began_s


@pytest.mark.parametrize("name", DRIVERS)
def test_stop_latency(benchmark, name):
    table = table_of(DRIVERS[name])
    latencies: dict[str, list[float]] = {"move": [], "queries": [], "blocked read": [], "no cable": []}

    def measure() -> None:
        with table.opened(speed_um_s=100.0) as (stage, emulator):
            for attempt in range(MOVES):
                if not stage.is_referenced:
                    stage.confirm_position()
                stage.start_move_by(-100.0 if attempt % 2 else 100.0)
                wait_until(lambda: emulator.motor.is_moving)
                latencies["move"].append(arrival_s(stage, emulator, table.stop_bytes))
            with in_a_thread(stage.is_moving):
                for attempt in range(QUERIES):
                    time.sleep(0.003 + attempt % 7 * 0.001)
                    latencies["queries"].append(arrival_s(stage, emulator, table.stop_bytes))
            emulator.mute = True
            with in_a_thread(stage.is_moving):
                for attempt in range(BLOCKED_READS):
                    time.sleep(0.003 + attempt % 7 * 0.001)
                    latencies["blocked read"].append(arrival_s(stage, emulator, table.stop_bytes))
            emulator.mute = False
            for _attempt in range(RECONNECTIONS):
                emulator.unplug()
                with contextlib.suppress(StageError):
                    stage.is_moving()
                emulator.received.clear()
                with in_a_thread(lambda: stage.reconnect(0.5)):
                    began_s = time.monotonic()
                    with pytest.raises(StageDisconnected):
                        stage.stop()
                    latencies["no cable"].append(time.monotonic() - began_s)
                    emulator.replug()
                    wait_until(lambda: emulator.received)
                assert emulator.received[0][1].startswith(table.stop_bytes)

    benchmark.pedantic(measure, rounds=1)
    longest = {case: max(values) * 1e3 for case, values in latencies.items()}
    words = ", ".join(f"{case} {value:.1f} ms" for case, value in longest.items())
    print(f"\n{name}: STOP within: {words}; {sum(map(len, latencies.values()))} tries")
    benchmark.extra_info.update(longest)
    assert sum(map(len, latencies.values())) == 200
    assert max(longest.values()) < 1e3 * LIMIT_S
