"""Captures frames into argv[1] as fast as it can and prints the index of each once it is written."""

import sys

import numpy as np

from models.capture_file import StackWriter


def frame(index: int, shape: tuple[int, ...] = (96, 128)) -> np.ndarray:
    """What frame ``index`` holds, so that the parent process can check it bit by bit."""
    return np.random.default_rng(index).integers(0, 65536, shape, dtype=np.uint16)


if __name__ == "__main__":
    count = int(sys.argv[2])
    with StackWriter(sys.argv[1], image_shape=(96, 128), dtype=np.uint16, frame_count=count, pixel_um=0.5) as writer:
        for index in range(count):
            writer.append(frame(index), z_um=-2.0 * index, z_requested_um=-2.0 * index, time_s=0.1 * index)
            print(index, flush=True)
        writer.complete()
    print("complete", flush=True)
