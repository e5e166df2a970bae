"""Networks in the window: chosen, given weights, loaded beside the window, and what they say of their uncertainty."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog

from app.document import Document, rescaled_map
from app.surface.layers import layer_picture, uncertainty_range
from app.surface.reconstruction_panel import ReconstructionPanel
from app.surface.workspace import TABS, SurfaceWorkspace
from models.focal_stack import FocalStack
from models.height_map import HeightMap
from models.methods import METHODS, ReconstructionOptions
from tests.gui.shell import LONG, bar_texts, opened
from tests.trained import save_weights, ship

NET, LIVE = "gplws-net", "gplws-net-live"


@pytest.fixture
def panel(qtbot):
    panel = ReconstructionPanel()
    qtbot.addWidget(panel)
    panel.show()
    qtbot.waitExposed(panel)
    return panel


def choose(panel: ReconstructionPanel, method: str) -> None:
    panel.method.setCurrentIndex(panel.method.findData(method))


def answer(monkeypatch, path: object) -> None:
    """What the file dialog will say."""
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_arguments: (str(path), ""))


def ask_for_weights(panel: ReconstructionPanel) -> None:
    box = panel.weights
    box.setCurrentIndex(box.findData("choose"))
    box.activated.emit(box.currentIndex())


def test_methods_stand_under_the_heading_of_their_kind(panel):
    box = panel.method
    names = [box.itemData(row) for row in range(box.count())]
    assert [name for name in names if name is not None] == sorted(
        METHODS, key=lambda name: ("network", "measure", "volume").index(METHODS[name].kind)
    )
    headings = [row for row, name in enumerate(names) if name is None]
    assert len(headings) == 3
    for row in headings:
        assert box.model().flags(box.model().index(row, 0)) == Qt.ItemFlag.NoItemFlags
        kinds = {
            METHODS[name].kind
            for name in names[row + 1 :][: names[row + 1 :].index(None) if None in names[row + 1 :] else None]
        }
        assert len(kinds) == 1


@pytest.mark.parametrize("method", [LIVE, "mdml", "rr"])
def test_only_what_concerns_the_method_is_shown(panel, method):
    choose(panel, method)
    is_network = method == LIVE
    assert panel.weights.isVisible() == panel.engine.isVisible() == is_network
    assert panel.window_px.isVisible() == (not is_network)
    assert panel.align.isVisible()


def test_a_network_without_weights_asks_for_them(panel, tmp_path, monkeypatch):
    ship(monkeypatch, tmp_path / "none")
    choose(panel, "mdml")
    choose(panel, NET)
    assert "choose a file" in panel._summary.text()
    assert panel._summary.property("role") == "amber"
    ship(monkeypatch, tmp_path / "weights", LIVE)
    choose(panel, LIVE)
    assert panel.weights.currentText() == "Shipped"
    assert panel._summary.property("role") == "hint"


def test_own_weights_choose_their_network(panel, tmp_path, monkeypatch):
    ship(monkeypatch, tmp_path / "weights", NET, LIVE)
    told: list[ReconstructionOptions] = []
    panel.valueChanged.connect(told.append)
    choose(panel, NET)
    own = save_weights(tmp_path, LIVE)
    answer(monkeypatch, own)
    ask_for_weights(panel)
    assert (told[-1].method, told[-1].weights) == (LIVE, str(own))
    assert panel.weights.currentText() == own.name
    panel.weights.setCurrentIndex(0)
    panel.weights.activated.emit(0)
    assert (told[-1].method, told[-1].weights) == (LIVE, None)
    ask_for_weights(panel)
    choose(panel, NET)
    assert told[-1].weights is None, "those of another network are of no use"
    choose(panel, "mdml")
    assert panel.value() == ReconstructionOptions(method="mdml")


def test_weights_of_a_network_that_is_not_in_the_list(panel, tmp_path, monkeypatch):
    peer = save_weights(tmp_path, "fvnet", calibrated=False)
    choose(panel, LIVE)
    answer(monkeypatch, peer)
    ask_for_weights(panel)
    assert panel.value().method == "fvnet"
    before = panel.method.findData("sml")
    assert panel.method.findData("fvnet") < before


def test_a_file_that_holds_no_weights_changes_nothing(panel, tmp_path, monkeypatch):
    (tmp_path / "a.safetensors").write_text("nothing")
    choose(panel, LIVE)
    before = panel.value()
    for path, says in ((tmp_path / "a.safetensors", "holds no weights"), ("", "")):
        answer(monkeypatch, path)
        ask_for_weights(panel)
        assert says in panel._summary.text()
        assert panel.value() == before


def test_a_method_that_this_program_does_not_know_becomes_the_default(panel):
    panel.setValue(ReconstructionOptions(method="wavelet"))
    assert panel.value().method in METHODS


# --- the work


def test_a_network_is_loaded_beside_the_window_and_the_status_line_says_so(
    qtbot, window, folder, tmp_path, monkeypatch
):
    ship(monkeypatch, tmp_path / "weights", LIVE)
    window._change_options(method=LIVE)
    threads, titles = [], []
    from app import opening

    prepare = opening.prepare

    def watched(options: ReconstructionOptions) -> None:
        threads.append(threading.current_thread())
        prepare(options)

    monkeypatch.setattr(opening, "prepare", watched)
    window.opening.worker.started.connect(lambda: titles.append(window.opening.worker.title))
    window.open_path(folder)
    opened(qtbot, window)
    assert threads
    assert threading.main_thread() not in threads
    qtbot.waitUntil(lambda: "Reconstructing" in titles, timeout=LONG)
    assert titles.index("Loading the network …") < titles.index("Reconstructing")
    assert window.document.height_map.method == LIVE


def test_missing_weights_are_a_bar_and_leave_the_stack_open(qtbot, window, folder, tmp_path, monkeypatch):
    ship(monkeypatch, tmp_path / "none")
    window._change_options(method=NET)
    window.open_path(folder)
    qtbot.waitUntil(lambda: any("No weights of 'gplws-net'" in text for text in bar_texts(window)), timeout=LONG)
    assert window.document.stack is not None


# --- uncertainty


def measured(*, with_interval: bool = True) -> HeightMap:
    rows, columns = np.indices((40, 60), np.float32)
    half = (0.1 + columns / 60).astype(np.float32)
    return HeightMap(
        rows,
        np.full((40, 60), 0.8, np.float32),
        np.zeros((40, 60), np.uint8),
        np.zeros((40, 60), np.uint8),
        method=LIVE,
        interval68_um=half / 2 if with_interval else None,
        interval95_um=half if with_interval else None,
    )


@pytest.fixture
def workspace(qtbot):
    workspace = SurfaceWorkspace(Document())
    qtbot.addWidget(workspace)
    workspace.resize(1200, 720)
    workspace.show()
    qtbot.waitExposed(workspace)
    yield workspace
    workspace.close_threads()


def to_tab(workspace: SurfaceWorkspace, name: str) -> None:
    workspace.tabs.setCurrentIndex([tab for tab, *_ in TABS].index(name))


def test_the_uncertainty_is_a_layer_with_its_own_colour_bar(workspace):
    workspace._document.set_height_map(measured())
    to_tab(workspace, "uncertainty")
    bar = workspace.image.colour_bar
    assert bar.isVisible()
    assert bar.unit() == "µm"
    low, high = bar.range()
    assert low == 0
    assert 1.0 < high <= 1.1
    picture = layer_picture(measured(), "uncertainty", colour_map="viridis", height_range=(0, 1))
    brightness = picture.sum(axis=2)[0].astype(int)
    assert brightness[-1] > brightness[0], "what is doubtful is bright"


def test_a_map_without_uncertainty_says_so_and_the_other_layers_come_back(workspace):
    workspace._document.set_height_map(measured(with_interval=False))
    to_tab(workspace, "uncertainty")
    assert not workspace.image.colour_bar.isVisible()
    assert "states no uncertainty" in workspace.image._canvas.empty_text
    assert workspace.image._canvas.scale_unit is None
    assert not workspace.image._line.isVisible()
    to_tab(workspace, "height")
    assert workspace.image.colour_bar.isVisible()
    assert workspace.image._line.isVisible()
    assert uncertainty_range(measured(with_interval=False)) == (0, 1)


def test_the_read_out_says_how_sure_the_height_is(workspace):
    readout = workspace.readout
    readout.show_pixel(measured(), 12, 30)
    assert readout.text("height") == "12.00 ± 0.60 µm"
    readout.show_pixel(measured(with_interval=False), 12, 30)
    assert readout.text("height") == "12.000 µm"
    unknown = replace(measured(), height_um=np.full((40, 60), np.nan, np.float32))
    readout.show_pixel(unknown, 12, 30)
    assert readout.text("height") == "–"


def test_a_new_step_rescales_the_intervals_too():
    frames = np.zeros((3, 40, 60), np.uint8)
    before, after = FocalStack(frames, np.arange(3.0)), FocalStack(frames, np.arange(3.0) * -2.5)
    scaled = rescaled_map(measured(), before, after)
    np.testing.assert_allclose(scaled.interval95_um, measured().interval95_um * 2.5, rtol=1e-6)
    assert scaled.interval68_um.dtype == np.float32
    assert rescaled_map(measured(with_interval=False), before, after).interval95_um is None
