"""Peak memory of reconstructing a stack that is far larger: 100 frames of 2048 x 2048, 16 bit, 839 MB.

The peak is that of a whole fresh process, its libraries included. Run:
python -m pytest tests/benchmarks/test_reconstruction_memory.py --benchmark-only -s
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.capture_file import StackWriter

SIDE, FRAMES = 2048, 100
LIMIT_BYTES = 2 * 2**30

CHILD = """
import json, sys, time
from models.methods import ReconstructionOptions
from models.reconstruct import reconstruct
from models.storage import open_stack

start = time.perf_counter()
height_map = reconstruct(open_stack(sys.argv[1]), ReconstructionOptions(**json.loads(sys.argv[2])))
# Not getrusage(): its peak includes that of the parent at the moment of the fork.
kib = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"bytes": kib * 1024, "seconds": time.perf_counter() - start, "shape": height_map.shape}))
"""


@pytest.fixture(scope="module")
def stack_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "large.h5"
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 4096, (SIDE + FRAMES, SIDE), dtype=np.uint16)
    with StackWriter(path, image_shape=(SIDE, SIDE), dtype=np.uint16, frame_count=FRAMES) as writer:
        for k in range(FRAMES):
            writer.append(noise[k : k + SIDE], z_um=float(k), z_requested_um=float(k), time_s=0.1 * k)
        writer.complete()
    return path


@pytest.mark.benchmark(group="memory 2048x2048x100 uint16")
@pytest.mark.skipif(sys.platform == "win32", reason="the peak is read with resource.getrusage")
@pytest.mark.parametrize(
    "options", [{}, {"regularisation": 1.0}, {"align": "similarity", "regularisation": 1.0}], ids=str
)
def test_peak_memory_stays_under_2_gib(benchmark, stack_file, options):
    command = [sys.executable, "-c", CHILD, str(stack_file), json.dumps(options)]
    root = Path(__file__).resolve().parents[2]
    done = benchmark.pedantic(
        lambda: subprocess.run(command, cwd=root, check=True, capture_output=True, text=True), rounds=1
    )
    outcome = json.loads(done.stdout)
    benchmark.extra_info.update(outcome)
    print(f"\n{options}: peak {outcome['bytes'] / 2**20:.0f} MiB, {outcome['seconds']:.1f} s")
    assert outcome["shape"] == [SIDE, SIDE]
    assert outcome["bytes"] < LIMIT_BYTES
