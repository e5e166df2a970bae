"""How fast the views can be fed, each beside what pyqtgraph offers, and whether memory stays level.

Every update is waited for until it is on the screen of a real window.
"""

import gc
import resource
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pyqtgraph as pg
import pytest
from pyqtgraph.opengl import GLSurfacePlotItem, GLViewWidget
from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtWidgets import QApplication

from app.surface import view3d
from app.surface.image_view import ImageView
from app.surface.view3d import SurfaceView
from models.height_map import HeightMap

SECONDS = 3.0
SIZES = (256, 512, 1024)


@pytest.fixture(scope="session")
def qapp_cls() -> type[QApplication]:
    QCoreApplication.setAttribute(Qt.ApplicationAttribute.AA_ShareOpenGLContexts)
    return QApplication


def growing_maps(side: int) -> list[HeightMap]:
    r, c = np.mgrid[:side, :side] / side
    ones, none = np.ones((side, side), np.float32), np.zeros((side, side), np.uint8)
    noise = np.random.default_rng(0).normal(0, 0.05, (4, side, side))
    return [
        HeightMap((3 * np.sin(20 * c + k) * np.cos(17 * r) + noise[k]).astype(np.float32), ones, none, pixel_um=1.0)
        for k in range(4)
    ]


class Screen:
    """Waits until an update is really drawn."""

    def __init__(self, qtbot, window, canvas) -> None:
        qtbot.addWidget(window)
        window.resize(800, 600)
        window.show()
        qtbot.waitExposed(window)
        self._drawn = 0
        canvas.frameSwapped.connect(self._count)

    def _count(self) -> None:
        self._drawn += 1

    def wait(self) -> None:
        before = self._drawn
        while self._drawn == before:
            QApplication.processEvents()


def rate(update: Callable[[int], None]) -> float:
    """Updates per second; the first three fill the caches."""
    for number in range(3):
        update(number)
    begun = time.perf_counter()
    for number in count():
        update(number)
        elapsed = time.perf_counter() - begun
        if elapsed > SECONDS:
            return (number + 1) / elapsed
    raise AssertionError


def surface_plot(qtbot, maps: list[HeightMap], **look) -> float:
    window = GLViewWidget()
    screen = Screen(qtbot, window, window)
    side = maps[0].shape[0]
    item = GLSurfacePlotItem(x=np.linspace(-5, 5, side), y=np.linspace(-5, 5, side), **look)
    window.addItem(item)
    window.setCameraPosition(distance=14)

    def update(number: int) -> None:
        item.setData(z=maps[number % 4].height_um)
        screen.wait()

    fps = rate(update)
    window.close()
    gc.collect()
    return fps


@pytest.mark.parametrize("side", SIZES)
def test_live_height_map(qtbot, benchmark, monkeypatch, side):
    maps = growing_maps(side)
    unlit = surface_plot(qtbot, maps, shader="heightColor", smooth=True, computeNormals=False)
    lit = surface_plot(qtbot, maps, shader="shaded", smooth=False, computeNormals=True)
    # Every pixel is drawn, as by the others; the program itself thins a live map.
    thinned = dict(view3d.LIVE_CELLS)
    monkeypatch.setattr(view3d, "LIVE_CELLS", {True: side, False: side})
    view = SurfaceView()
    screen = Screen(qtbot, view, view.scene)

    def update(number: int) -> None:
        view.set_height_map(maps[number % 4], moving=True)
        screen.wait()

    ours = rate(update)
    monkeypatch.setattr(view3d, "LIVE_CELLS", thinned)
    in_program = rate(update)
    numbers = count()
    benchmark.pedantic(lambda: view.set_height_map(maps[next(numbers) % 4], moving=True), rounds=50, warmup_rounds=3)
    benchmark.extra_info.update(ours=ours, unlit=unlit, lit=lit, in_program=in_program)
    print(f"\n{side} x {side}: {ours:.1f} updates/s on the screen, lit")
    print(f"  pyqtgraph {unlit:.1f} unlit ({ours / unlit:.1f}x), {lit:.1f} lit ({ours / lit:.1f}x)")
    print(f"  as the program does it, thinned: {in_program:.1f} updates/s")
    assert ours > lit


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_live_camera_picture(qtbot, benchmark, dtype):
    frames = np.random.default_rng(0).integers(0, np.iinfo(dtype).max // 8, (4, 1024, 1024)).astype(dtype)

    def fps(window, show: Callable[[np.ndarray], None], viewport) -> float:
        qtbot.addWidget(window)
        window.resize(800, 600)
        window.show()
        qtbot.waitExposed(window)

        def update(number: int) -> None:
            show(frames[number % 4])
            viewport.repaint()
            QApplication.processEvents()

        result = rate(update)
        window.hide()
        return result

    plain = pg.ImageView()
    theirs = fps(plain, plain.setImage, plain.ui.graphicsView.viewport())
    view = ImageView()
    levels = (0.0, float(np.iinfo(dtype).max // 8))
    ours = fps(view, lambda frame: view.set_image(frame, levels=levels), view.focusProxy().viewport())
    numbers = count()
    benchmark.pedantic(lambda: view.set_image(frames[next(numbers) % 4], levels=levels), rounds=50, warmup_rounds=3)
    benchmark.extra_info.update(ours=ours, pyqtgraph=theirs)
    print(
        f"\n1024 x 1024 {np.dtype(dtype).name}: {ours:.0f} pictures/s, "
        f"pyqtgraph.ImageView {theirs:.0f} ({ours / theirs:.1f}x)"
    )
    assert ours > 30


def test_memory_over_20000_live_updates(qtbot, benchmark):
    maps = growing_maps(128)
    view = SurfaceView()
    screen = Screen(qtbot, view, view.scene)
    view.resize(320, 240)
    sizes: list[int] = []

    def run(updates: int) -> None:
        for number in range(updates):
            view.set_height_map(maps[number % 4], moving=True)
            screen.wait()

    def soak() -> None:
        run(500)
        for _ in range(21):
            gc.collect()
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
            if len(sizes) < 21:
                run(1000)

    benchmark.pedantic(soak, rounds=1)
    megabytes = [size / 2**20 for size in sizes]
    slope = float(np.polyfit(range(21), megabytes, 1)[0])
    print(
        f"\n20,000 updates of 128 x 128, all drawn: {megabytes[0]:.1f} MB before, {megabytes[-1]:.1f} MB after, "
        f"{1024 * slope:.1f} kB per 1,000 updates"
    )
    # One copy of a map per update would be 64 MB per 1,000 updates.
    assert megabytes[-1] - megabytes[0] < 8
