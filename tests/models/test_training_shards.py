"""Shards and splits on the disk: whole, resumable, the same by one process or two, and readable again."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from models.errors import Cancelled, InputError, OutputError
from models.focal_stack import FocalStack
from models.formats import read_stack
from models.storage import write_stack
from models.training import splits
from models.training.generator import random_scene
from models.training.scene import Scene
from models.training.shards import STREAM, ShardPlan, read_shard, write_shards
from models.training.splits import FIXED, SPLITS, Split, read_scene, read_scenes, split, write_scene, write_split


@pytest.fixture
def plan(tmp_path):
    """Three shards of the smallest scenes, the last one short."""
    return ShardPlan(tmp_path / "pool", count=36, seed=7, size_px=32, frames=3)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestShards:
    def test_they_hold_the_scenes_of_their_stream(self, plan):
        seen = []
        assert write_shards(plan, progress=lambda done, total: seen.append((done, total))) == 36
        assert seen == [(0, 36), (16, 36), (32, 36), (36, 36)]
        shards = [read_shard(plan.path(shard)) for shard in range(3)]
        assert [len(shard["kind"]) for shard in shards] == [16, 16, 4]
        assert shards[1]["frames"].shape == (16, 3, 32, 32)
        assert shards[1]["frames"].dtype == np.uint8
        assert shards[1]["z_um"].dtype == shards[1]["height_um"].dtype == np.float32
        scene = random_scene((STREAM, 7, 18), size=(32, 32), frames=3)
        np.testing.assert_array_equal(shards[1]["frames"][2], scene.stack.frames)
        np.testing.assert_array_equal(shards[1]["height_um"][2], scene.height_um)
        assert shards[1]["kind"][2] == scene.kind

    def test_what_is_there_is_kept_and_what_is_damaged_is_made_again(self, plan):
        write_shards(plan)
        before = contents(plan.folder)
        plan.path(0).unlink()
        plan.path(1).write_bytes(before[plan.path(1).name][:5000])
        untouched = plan.path(2).stat().st_mtime_ns
        assert write_shards(plan) == 32
        after = contents(plan.folder)
        assert after.keys() == before.keys()
        assert plan.path(2).stat().st_mtime_ns == untouched
        scene = random_scene((STREAM, 7, 0), size=(32, 32), frames=3)
        np.testing.assert_array_equal(read_shard(plan.path(0))["frames"][0], scene.stack.frames)
        assert len(read_shard(plan.path(1))["kind"]) == 16

    def test_another_style_gives_other_scenes_and_is_not_mixed_in(self, plan):
        write_shards(plan)
        with pytest.raises(InputError, match="other scenes"):
            write_shards(replace(plan, style="textured"))
        textured = replace(plan, style="textured", folder=plan.folder / "textured", count=2)
        assert write_shards(textured) == 2
        assert write_shards(textured) == 0
        first = read_shard(textured.path(0))
        assert not np.array_equal(first["frames"][0], read_shard(plan.path(0))["frames"][0])
        scene = random_scene((STREAM, *textured.seed_of(0)), size=(32, 32), frames=3, kinds="textured")
        np.testing.assert_array_equal(first["frames"][0], scene.stack.frames)

    def test_more_scenes_of_the_same_stream_are_added(self, plan):
        write_shards(plan)
        longer = ShardPlan(plan.folder, 40, plan.seed, plan.size_px, plan.frames)
        assert write_shards(longer) == 8  # the short shard is made again
        assert len(read_shard(longer.path(2))["kind"]) == 8

    @pytest.mark.parametrize("change", [{"seed": 8}, {"size_px": 40}, {"frames": 4}])
    def test_other_scenes_are_not_mixed_in(self, plan, change):
        write_shards(plan)
        other = ShardPlan(**{**plan.__dict__, **change})
        before = contents(plan.folder)
        with pytest.raises(InputError, match="other scenes"):
            write_shards(other)
        assert contents(plan.folder) == before

    def test_cancelled_it_leaves_whole_shards_and_goes_on_later(self, plan):
        cancel = threading.Event()
        with pytest.raises(Cancelled):
            write_shards(plan, cancel=cancel, progress=lambda done, _total: cancel.set() if done else None)
        assert [path.name for path in plan.folder.iterdir()] == ["shard_00000.npz"]
        assert write_shards(plan) == 20

    def test_two_processes_render_the_same(self, plan, tmp_path):
        other = ShardPlan(**{**plan.__dict__, "folder": tmp_path / "other"})
        write_shards(plan)
        assert write_shards(other, jobs=2) == 36
        for shard in range(3):
            one, two = read_shard(plan.path(shard)), read_shard(other.path(shard))
            for name, values in one.items():
                np.testing.assert_array_equal(values, two[name])

    def test_a_folder_that_cannot_be_made(self, plan, tmp_path):
        (tmp_path / "pool").write_text("a file")
        with pytest.raises(OutputError, match="pool"):
            write_shards(plan)

    def test_a_file_that_is_no_shard(self, tmp_path):
        (tmp_path / "x.npz").write_bytes(b"nothing of the kind")
        with pytest.raises(InputError, match=r"x\.npz"):
            read_shard(tmp_path / "x.npz")
        with pytest.raises(InputError, match=r"y\.npz"):
            read_shard(tmp_path / "y.npz")


class TestSplits:
    def test_their_sizes_are_those_of_micro_3d(self):
        assert (SPLITS["train"].count, SPLITS["test"].count) == (382, 106)
        assert all((SPLITS[name].frames, SPLITS[name].size_px) == ((20,), 256) for name in ("train", "test"))

    def test_no_scene_is_in_two_splits_or_in_a_shard(self):
        assert STREAM != FIXED
        assert len({split.number for split in SPLITS.values()}) == len(SPLITS)

    @pytest.mark.parametrize("name", sorted(SPLITS))
    def test_every_split_renders(self, name):
        small = Split(**{**SPLITS[name].__dict__, "size_px": 48})
        scene = small.scene(1)
        assert len(scene.stack) == small.frames[1 % len(small.frames)]

    def test_an_unknown_split_is_named(self):
        with pytest.raises(InputError, match="calibration"):
            split("validation")

    def test_files_are_kept_and_completed(self, tmp_path, monkeypatch):
        monkeypatch.setitem(splits.SPLITS, "tiny", Split(99, 4, frames=(5, 6), size_px=40))
        assert write_split("tiny", tmp_path) == 4
        (tmp_path / "tiny_002.h5").unlink()
        seen = []
        assert write_split("tiny", tmp_path, progress=lambda done, total: seen.append((done, total))) == 1
        assert seen == [(3, 4), (4, 4)]
        scenes = read_scenes(tmp_path)
        assert [len(scene.stack) for scene in scenes] == [5, 6, 5, 6]
        np.testing.assert_array_equal(scenes[2].height_um, splits.SPLITS["tiny"].scene(2).height_um)


class TestSceneFiles:
    def test_a_scene_comes_back_and_opens_as_a_stack(self, tmp_path):
        scene = random_scene(11, size=(40, 48), frames=5)
        truth = scene.height_um.copy()
        truth[3, 4] = np.nan
        path = tmp_path / "a.h5"
        write_scene(path, Scene(scene.name, scene.kind, scene.stack, truth))
        again = read_scene(path)
        assert (again.name, again.kind) == (scene.name, scene.kind)
        np.testing.assert_array_equal(again.height_um, truth)
        assert again.height_um.dtype == np.float32
        stack = read_stack(path)
        assert stack.pixel_um == scene.stack.pixel_um
        assert stack.optics == scene.stack.optics
        np.testing.assert_array_equal(stack.z_um, scene.stack.z_um)
        np.testing.assert_array_equal(np.stack([frame for frame, _z in stack]), scene.stack.frames)

    def test_a_stack_without_label_is_no_scene(self, tmp_path):
        frames = np.zeros((3, 8, 8), np.uint8)
        write_stack(tmp_path / "a.h5", FocalStack(frames, np.arange(3.0)))
        with pytest.raises(InputError, match="no label"):
            read_scene(tmp_path / "a.h5")

    def test_folders_without_scenes(self, tmp_path):
        with pytest.raises(InputError, match="no scenes"):
            read_scenes(tmp_path)
        with pytest.raises(InputError, match="nowhere"):
            read_scenes(tmp_path / "nowhere")
