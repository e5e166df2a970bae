import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hardware.camera import CameraError, CameraSettings, Picture
from hardware.profile import load_profile, open_microscope
from hardware.recovery import Recovery
from hardware.stage import StageError, StageLimitError, StageStopped
from hardware.sweep import SweepPlan, capture, run_sweep
from models.errors import Cancelled, InputError, OutputError
from models.storage import frames_written, is_complete, open_stack, recover

heights = st.floats(-900, 900, allow_nan=False)
PLAN = SweepPlan.by_count(5.0, -15.0, 9)


class TestPlan:
    @given(heights, st.floats(0.01, 900), st.floats(0.05, 50), st.booleans())
    def test_both_ends_are_hit_exactly_whatever_the_step(self, bottom_um, range_um, step_um, descending):
        top_um = bottom_um + range_um
        plan = SweepPlan.by_step(top_um, bottom_um, step_um, descending)
        z_um = plan.z_um
        assert (z_um[0], z_um[-1]) == ((top_um, bottom_um) if descending else (bottom_um, top_um))
        assert len(z_um) == plan.frame_count
        steps = np.abs(np.diff(z_um))
        assert steps.max() <= step_um * (1 + 1e-4) + 1e-9
        np.testing.assert_allclose(steps, plan.step_um, rtol=1e-6, atol=1e-9)
        assert plan.frame_count == 2 or range_um / (plan.frame_count - 2) > step_um * (1 - 1e-4), "no needless frame"

    def test_says_when_the_step_was_reduced(self):
        assert SweepPlan.by_step(10.0, 0.0, 2.5).note is None
        assert SweepPlan.by_step(0.3, 0.0, 0.1).note is None, "3 x 0.1 is 0.3 for a person"
        plan = SweepPlan.by_step(10.0, 0.0, 3.0)
        assert plan.frame_count == 5
        assert plan.step_um == 2.5
        assert "2.5" in plan.note
        assert "3" in plan.note

    def test_around_a_centre(self):
        plan = SweepPlan.around(100.0, 20.0, frame_count=5, descending=False)
        assert list(plan.z_um) == [90.0, 95.0, 100.0, 105.0, 110.0]
        assert SweepPlan.around(0.0, 8.0, step_um=2.0).frame_count == 5

    @pytest.mark.parametrize(
        "values",
        [
            (0.0, 10.0, 1.0),
            (5.0, 5.0, 1.0),
            (10.0, 0.0, 0.0),
            (10.0, 0.0, -1.0),
            (10.0, 0.0, math.nan),
            (math.inf, 0.0, 1.0),
            (10.0, math.nan, 1.0),
            (10.0, 0.0, 1e-9),
        ],
    )
    def test_nonsense_is_refused_with_a_sentence(self, values):
        with pytest.raises(InputError):
            SweepPlan.by_step(*values)

    def test_is_frozen_and_checked(self):
        with pytest.raises(ValidationError):
            PLAN.frame_count = 3
        with pytest.raises(ValidationError):
            SweepPlan(first_um=1.0, last_um=1.0, frame_count=5)
        with pytest.raises(InputError):
            SweepPlan.by_count(1.0, 0.0, 1)

    def test_estimates_time_and_size(self, microscope):
        microscope.camera.apply(CameraSettings(bit_depth=16))
        estimate = PLAN.estimate(1000.0, microscope.camera, axis=microscope.axis)
        assert estimate.bytes == 9 * 96 * 128 * 2
        clock = microscope.axis.clock
        began_s = clock.now()
        list(run_sweep(microscope.axis, microscope.camera, PLAN))
        assert estimate.seconds == pytest.approx(clock.now() - began_s, rel=0.3)


class TestSweep:
    @pytest.mark.parametrize("descending", [True, False])
    def test_frames_stand_where_the_plan_says(self, microscope, descending):
        plan = SweepPlan.by_count(5.0, -15.0, 9, descending)
        frames = list(run_sweep(microscope.axis, microscope.camera, plan))
        assert [f.index for f in frames] == list(range(9))
        np.testing.assert_array_equal([f.z_requested_um for f in frames], plan.z_um)
        np.testing.assert_allclose([f.z_measured_um for f in frames], plan.z_um, atol=0.01)
        assert np.all(np.diff([f.time_s for f in frames]) > 0)

    def test_up_and_down_see_the_same_sample(self, microscope):
        """The play of the screw must not shift one against the other."""
        down = list(run_sweep(microscope.axis, microscope.camera, PLAN))
        up = list(
            run_sweep(microscope.axis, microscope.camera, PLAN.model_copy(update={"first_um": -15.0, "last_um": 5.0}))
        )
        for a, b in zip(down, reversed(up), strict=True):
            assert np.abs(a.image.astype(float) - b.image).mean() < 2.5, f"at {a.z_requested_um} um"

    def test_exposure_begins_after_settling(self, microscope):
        axis, camera, clock = microscope.axis, microscope.camera, microscope.axis.clock
        halted = []
        is_moving = microscope.stage.is_moving

        def note_the_halt():
            moving = is_moving()
            if not moving:
                halted.append(clock.now())
            return moving

        microscope.stage.is_moving = note_the_halt
        for frame in run_sweep(axis, camera, PLAN):
            assert frame.time_s - halted[-1] >= axis.settling.rest_ms / 1000.0 - 1e-9

    def test_a_buffered_old_picture_is_refused(self, microscope):
        snap = microscope.camera.snap
        microscope.camera.snap = lambda: Picture(snap().image, time_s=microscope.axis.clock.now() - 1.0)
        with pytest.raises(CameraError, match="before the stage had settled"):
            next(run_sweep(microscope.axis, microscope.camera, PLAN))

    def test_waits_for_a_steady_picture_where_the_profile_says_so(self):
        """The carriage rings for 0.1 s after a stop, which the motor's own position does not show."""

        def seen(settle):
            profile = load_profile("simulated").changed(
                time_scale=math.inf,
                camera={"image_shape": (96, 128), "readout_ms": 0.0, "settings": {"exposure_ms": 10.0}},
                stage={"ringing_um": 8.0, "ringing_hz": 40.0, "ringing_decay_ms": 30.0},
                axis={"settle": settle, "settle_ms": 0.0, "settle_limit_s": 5.0},
            )
            with open_microscope(profile) as microscope:
                recovery = Recovery(microscope.axis, microscope.camera)
                stage, snap, errors = microscope.stage, microscope.camera.snap, []

                def noted():
                    picture = snap()
                    errors.append(abs(stage.carriage_um() - stage.position_um()))
                    return picture

                microscope.camera.snap = noted
                kept = []
                for _frame in run_sweep(microscope.axis, microscope.camera, PLAN, None, recovery):
                    kept.append(errors[-1])
                return kept, len(errors), recovery.course

        at_once, pictures, _course = seen("time")
        assert (pictures, max(at_once) > 2.0) == (9, True)
        steady, pictures, course = seen("image")
        assert pictures > 3 * 9
        assert max(steady) < 0.7, "an eighth of the depth of field"
        assert course.frames_unsteady == 0

    def test_a_table_that_never_rests_is_told_in_the_file_not_waited_for(self, microscope, tmp_path):
        axis, camera = microscope.axis, microscope.camera
        axis.settling.by, axis.settling.limit_s = "image", 0.3
        snap, number = camera.snap, iter(range(10**6))

        def trembling():
            picture = snap()
            return Picture(np.roll(picture.image, next(number) ** 2 % 5, axis=0), picture.time_s)

        camera.snap = trembling
        path = capture(axis, camera, PLAN, tmp_path / "a.h5")
        assert open_stack(path).metadata["course"]["frames_unsteady"] > 3

    def test_a_stage_that_does_not_get_on_is_no_stack(self, microscope):
        microscope.axis.move_to(6.0)
        measured = microscope.axis.move_to
        microscope.axis.move_to = lambda z_um, cancel: max(measured(z_um, cancel), 0.0)
        with pytest.raises(StageError, match="Take larger steps"):
            list(run_sweep(microscope.axis, microscope.camera, PLAN))

    def test_nothing_moves_when_one_end_is_out_of_limits(self, microscope):
        before = microscope.stage.position_um()
        with pytest.raises(StageLimitError):
            run_sweep(microscope.axis, microscope.camera, SweepPlan.by_count(0.0, -500.0, 5))
        assert microscope.stage.position_um() == before


class TestCapture:
    def run(self, microscope, path, plan=PLAN, **options):
        return capture(
            microscope.axis,
            microscope.camera,
            plan,
            path,
            pixel_um=microscope.pixel_um,
            optics=microscope.optics,
            **options,
        )

    def test_the_file_holds_every_frame_and_how_it_was_taken(self, microscope, tmp_path):
        frames = []
        path = self.run(microscope, tmp_path / "a.h5", on_frame=frames.append, metadata={"operator": "Ada"})
        stack = open_stack(path)
        assert len(stack) == 9
        np.testing.assert_array_equal(stack.z_um, [f.z_measured_um for f in frames])
        for index, frame in enumerate(frames):
            np.testing.assert_array_equal(stack.frames[index], frame.image)
        assert stack.optics == microscope.optics
        assert stack.metadata["operator"] == "Ada"
        assert stack.metadata["plan"]["frame_count"] == 9

    def test_frames_are_on_disk_when_they_are_announced(self, microscope, tmp_path):
        path = tmp_path / "a.h5"
        written = []
        self.run(microscope, path, on_frame=lambda frame: written.append(frames_written(path)[0]))
        assert written == list(range(1, 10))

    def interrupt(self, microscope, path, error, after):
        def on_frame(frame):
            if frame.index == 3:
                after()

        with pytest.raises(error):
            self.run(microscope, path, on_frame=on_frame, cancel=self.cancel)
        assert not is_complete(path)
        kept, planned = frames_written(path)
        assert (kept >= 4, planned) == (True, 9), "those that were announced, and those that were on their way"
        stack = recover(path)
        np.testing.assert_allclose(stack.z_um, PLAN.z_um[:kept], atol=0.01)

    def test_cancel_keeps_a_recoverable_file(self, microscope, tmp_path):
        self.cancel = threading.Event()
        self.interrupt(microscope, tmp_path / "a.h5", Cancelled, self.cancel.set)

    def test_a_camera_fault_keeps_the_frames(self, microscope, tmp_path):
        self.cancel = None
        self.interrupt(microscope, tmp_path / "a.h5", CameraError, lambda: microscope.camera.fail_at(0))

    def test_stop_keeps_the_frames(self, microscope, tmp_path):
        self.cancel = None
        self.interrupt(microscope, tmp_path / "a.h5", StageStopped, microscope.axis.stop)

    def test_cancel_from_another_thread_is_felt_during_a_move(self, running_microscope, tmp_path):
        cancel = threading.Event()
        threading.Timer(0.3, cancel.set).start()
        with pytest.raises(Cancelled):
            self.run(running_microscope, tmp_path / "a.h5", SweepPlan.by_count(100.0, -200.0, 200), cancel=cancel)

    def test_nothing_is_left_where_nothing_was_captured(self, microscope, tmp_path):
        microscope.camera.fail_at(1)
        with pytest.raises(CameraError):
            self.run(microscope, tmp_path / "a.h5")
        assert list(tmp_path.iterdir()) == []

    def test_limits_and_file_are_checked_before_anything_moves(self, microscope, tmp_path):
        before = microscope.stage.position_um()
        with pytest.raises(StageLimitError):
            self.run(microscope, tmp_path / "a.h5", SweepPlan.by_count(0.0, -500.0, 5))
        assert list(tmp_path.iterdir()) == []
        taken = tmp_path / "taken.h5"
        taken.write_bytes(b"mine")
        with pytest.raises(OutputError, match="taken"):
            self.run(microscope, taken)
        assert taken.read_bytes() == b"mine"
        assert microscope.stage.position_um() == before
