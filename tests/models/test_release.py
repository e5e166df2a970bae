"""Weights that are shipped: calibrated on scenes that the network has not seen."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from models.errors import InputError
from models.focal_stack import FocalStack
from models.height_map import HeightMap
from models.methods import ReconstructionOptions
from models.networks.engines import open_network
from models.networks.streaming import StreamingNetwork
from models.training.generator import random_scene
from models.training.release import release
from models.training.scene import Scene
from tests.trained import begun

SCENES = [random_scene((9, index), size=(72, 72), frames=6) for index in range(4)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Weights as a run leaves them; random ones state a doubt, too."""
    folder = tmp_path_factory.mktemp("run")
    save_file(
        begun("gplws-net-live").state_dict(), folder / "weights.safetensors", metadata={"network": "gplws-net-live"}
    )
    (folder / "card.json").write_text(json.dumps({"steps": 7, "sha256": "old"}))
    return folder / "weights.safetensors"


def test_released_weights_open_with_intervals_and_a_card(trained, tmp_path):
    told = []
    out = tmp_path / "gplws-net-live.safetensors"
    card = release(trained, SCENES, out, lambda done, of: told.append((done, of)))
    assert told == [(k, 4) for k in (1, 2, 3, 4)]
    assert json.loads(out.with_suffix(".json").read_text()) == card
    assert card["steps"] == 7
    # Of two scenes, from what two others gave: no more than that it was measured there.
    assert 0.3 < card["calibration"]["inside_68"] < card["calibration"]["inside_95"] <= 1
    opened = open_network("gplws-net-live", weights=out, engine="torch")
    assert opened.weights_sha256 == card["sha256"] != "old"
    with safe_open(trained, "numpy") as old, safe_open(out, "numpy") as new:
        assert all(np.array_equal(old.get_tensor(key), new.get_tensor(key)) for key in old.keys())  # noqa: SIM118

    inside = []
    for scene in SCENES:
        height_map = mapped(opened, scene.stack)
        known = np.isfinite(scene.height_um) & np.isfinite(height_map.interval95_um)
        inside.append(np.abs(height_map.height_um - scene.height_um)[known] <= height_map.interval95_um[known])
    assert np.concatenate(inside).mean() == pytest.approx(0.95, abs=0.05)


def mapped(opened, stack: FocalStack) -> HeightMap:
    taking = StreamingNetwork(opened.network, opened.calibration, ReconstructionOptions())
    taking.add_all(list(stack))
    return taking.finish()


def test_too_few_known_heights_are_refused(trained, tmp_path):
    first = SCENES[0]
    blank = Scene("blank", "blank", first.stack, np.full_like(first.height_um, np.nan))
    with pytest.raises(InputError, match="two scenes"):
        release(trained, [first], tmp_path / "out.safetensors")
    with pytest.raises(InputError, match="Only 0 pixels"):
        release(trained, [blank, blank], tmp_path / "out.safetensors")
    assert not list(tmp_path.iterdir())
