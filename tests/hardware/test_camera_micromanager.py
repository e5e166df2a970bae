"""Micro-Manager, with the demonstration devices that its makers ship: a focal stack and its focus."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from hardware.autofocus import sharpness
from hardware.camera import CameraDisconnected, CameraError, CameraSettings
from hardware.cameras.settings import MicroManagerCameraProfile
from hardware.motion import FocusAxis
from hardware.stage import StageDisconnected, StageError, StageLimitError, StageStopped, StageUnreferenced
from hardware.sweep import SweepPlan, capture
from models.reconstruct import reconstruct
from models.storage import open_stack
from tests.hardware.camera_behaviour import CameraBehaviour

pytest.importorskip("pymmcore_plus", reason="pymmcore-plus is not installed")
pytest.importorskip("mm_test_adapters", reason="mm-test-adapters is not installed")

BEADS = {"Mode": "Fluorescent Beads"}


def wait_for(stage):
    while stage.is_moving():
        time.sleep(0.001)


@pytest.fixture
def open_camera():
    from hardware.cameras.micromanager import MicroManagerCamera

    opened = []

    def opening(**section):
        profile = {"sensor_pixel_um": 6.5, "properties": BEADS, **section}
        opened.append(MicroManagerCamera(MicroManagerCameraProfile(driver="micromanager", **profile)))
        return opened[-1]

    yield opening
    for camera in opened:
        camera.close()


@pytest.fixture
def open_stage():
    from hardware.stages.micromanager import MicroManagerStage, MicroManagerStageProfile

    opened = []

    def opening(**section):
        profile = {"low_um": -200.0, "high_um": 200.0, "trust_position": True, **section}
        opened.append(MicroManagerStage(MicroManagerStageProfile(driver="micromanager", **profile)))
        return opened[-1]

    yield opening
    for stage in opened:
        stage.close()


class TestMicroManagerCamera(CameraBehaviour):
    driver = "micromanager"

    @pytest.fixture
    def camera(self, open_camera):
        return open_camera()


def test_a_focal_stack_of_beads_is_captured_and_its_focus_found(open_camera, open_stage, tmp_path):
    """The demonstration camera blurs its beads with the height of the demonstration stage; in focus at 0."""
    axis, camera = FocusAxis(open_stage()), open_camera(settings=CameraSettings(exposure_ms=2.0, bit_depth=16))
    plan = SweepPlan.by_step(top_um=11.0, bottom_um=-9.0, step_um=1.0)
    stack = open_stack(capture(axis, camera, plan, tmp_path / "beads.h5", pixel_um=0.65))
    assert stack.frames.dtype == np.uint16
    np.testing.assert_allclose(stack.z_um, np.arange(11.0, -9.5, -1.0))
    sharp = [sharpness(stack.frames[index]) for index in range(len(stack))]
    assert stack.z_um[int(np.argmax(sharp))] == 0.0
    beads = stack.frames[int(np.argmax(sharp))] > np.quantile(stack.frames[int(np.argmax(sharp))], 0.98)
    assert np.nanmedian(reconstruct(stack).height_um[beads]) == pytest.approx(0.0, abs=0.5)


def test_colour_pictures_come_as_rgb(open_camera):
    camera = open_camera(properties={"PixelType": "32bitRGB", "Mode": "Color Test Pattern"})
    image = camera.snap().image
    assert image.shape == camera.image_shape == (512, 512, 3)
    assert image.dtype == np.uint8


def test_gain_is_proportional_to_the_number_that_the_profile_calls_1(open_camera):
    camera = open_camera(unit_gain=2.0)
    camera.apply(camera.settings.model_copy(update={"gain": 3.0}))
    assert float(camera._core.getProperty("Camera", "Gain")) == pytest.approx(6.0)
    assert camera.ranges.gain == (1.0, 4.0)


def test_camera_and_stage_share_the_core_and_either_may_close_first(open_camera, open_stage):
    stage, camera = open_stage(), open_camera()
    stage.start_move_to(3.0)
    wait_for(stage)
    camera.close()
    assert stage.position_um() == pytest.approx(3.0)
    stage.close()
    assert open_stage().position_um() == pytest.approx(0.0)  # a core of its own: the devices were unloaded


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"device": "Kamera"}, "no camera 'Kamera'"),
        ({"configuration": Path("/nowhere/scope.cfg")}, "no Micro-Manager configuration"),
        ({"properties": {"Modus": "Noise"}}, "reports.*Modus"),
    ],
)
def test_a_camera_that_cannot_be_opened_is_explained(open_camera, section, words):
    with pytest.raises(CameraError, match=words):
        open_camera(**section)
    open_camera().snap()


def test_a_broken_configuration_is_explained(open_camera, tmp_path):
    broken = tmp_path / "broken.cfg"
    broken.write_text("Device,Z,SerialManager,COM1\n")
    with pytest.raises(CameraError, match=r"broken\.cfg cannot be loaded"):
        open_camera(configuration=broken)


def test_a_stage_that_is_not_there_is_named(open_stage):
    with pytest.raises(StageError, match="no stage 'Focus'"):
        open_stage(device="Focus")


def test_the_stage_moves_within_its_limits_only(open_stage):
    stage = open_stage()
    for _step in range(2):
        stage.start_move_by(5.0)
        wait_for(stage)
    assert stage.position_um() == pytest.approx(10.0)
    with pytest.raises(StageLimitError, match="Nothing was moved"):
        stage.start_move_to(200.5)
    stage.stop()
    assert stage.position_um() == pytest.approx(10.0)


def test_the_stage_moves_only_when_somebody_vouches_for_its_position(open_stage):
    stage = open_stage(trust_position=False)
    with pytest.raises(StageUnreferenced, match="Confirm"):
        stage.start_move_to(1.0)
    stage.confirm_position()
    stage.start_move_to(1.0)


def test_an_error_of_the_adapter_reaches_the_one_who_waits(open_stage):
    stage = open_stage(low_um=-1000.0, high_um=1000.0)  # more than the device can do
    stage.start_move_to(900.0)
    with pytest.raises(StageError, match=r"Z .*out of range"):
        wait_for(stage)


class Core:
    """The core of an adapter that homes without waiting, and moves where it is told after ``gate`` has opened."""

    def __init__(self, core):
        self._core = core
        self.busy_until_s, self.stops = 0.0, 0
        self.gate = threading.Event()
        self.gate.set()
        self.targets_um = []

    def __getattr__(self, name):
        return getattr(self._core, name)

    def home(self, _label):
        self.busy_until_s = time.monotonic() + 0.3

    def waitForDevice(self, _label):
        raise RuntimeError("wait timed out after 5000ms")

    def deviceBusy(self, _label):
        return time.monotonic() < self.busy_until_s

    def getPosition(self, label):
        self.gate.wait(5.0)
        return self._core.getPosition(label)

    def setPosition(self, _label, position_um):
        self.targets_um.append(position_um)
        self.gate.wait(5.0)

    def stop(self, _label):
        self.stops += 1
        self.busy_until_s = 0.0


@pytest.fixture
def stage_and_core(open_stage):
    stage = open_stage(trust_position=False)
    real, core = stage._core, Core(stage._core)
    stage._core = core
    yield stage, core
    core.gate.set()
    stage._core = real


def test_homing_may_take_longer_than_the_core_waits(stage_and_core):
    stage, core = stage_and_core
    stage.home()
    assert stage.is_referenced
    assert time.monotonic() >= core.busy_until_s


def test_homing_that_was_stopped_gives_no_reference(stage_and_core):
    stage, core = stage_and_core
    threading.Timer(0.1, stage.stop).start()
    with pytest.raises(StageStopped):
        stage.home()
    assert core.stops
    assert not stage.is_referenced


def test_a_queued_move_does_not_overtake_its_stop(stage_and_core):
    stage, core = stage_and_core
    stage.confirm_position()
    core.gate.clear()
    asking = threading.Thread(target=stage.position_um)
    asking.start()
    time.sleep(0.05)
    stage.start_move_to(5.0)
    stage.stop()
    core.gate.set()
    asking.join(5.0)
    with pytest.raises(StageStopped):
        wait_for(stage)
    assert core.targets_um == []


def test_a_move_that_begins_under_the_stop_is_halted_again(stage_and_core):
    stage, core = stage_and_core
    stage.confirm_position()
    core.gate.clear()
    stage.start_move_to(5.0)
    while not core.targets_um:
        time.sleep(0.001)
    stage.stop()
    core.gate.set()
    with pytest.raises(StageStopped):
        wait_for(stage)
    assert core.stops == 2


def test_an_adapter_that_never_answers_is_not_waited_for_forever(stage_and_core, monkeypatch):
    stage, core = stage_and_core
    monkeypatch.setattr("hardware.stages.micromanager.CALL_S", 0.1)
    core.gate.clear()
    with pytest.raises(StageDisconnected, match="did not answer within"):
        stage.position_um()
    core.gate.set()
    assert stage.position_um() == pytest.approx(0.0)


def test_a_move_that_never_ends_is_not_waited_for_forever(stage_and_core, monkeypatch):
    stage, core = stage_and_core
    stage.confirm_position()
    monkeypatch.setattr("hardware.stages.micromanager.CALL_S", 0.1)
    core.gate.clear()
    stage.start_move_to(5.0)
    assert stage.is_moving()
    for question in (stage.position_um, lambda: wait_for(stage)):
        with pytest.raises(StageDisconnected, match="did not answer within"):
            question()


def test_a_stage_may_be_asked_while_its_adapter_is_inside_a_move(stage_and_core):
    stage, core = stage_and_core
    stage.confirm_position()
    core.gate.clear()
    stage.start_move_to(5.0)
    threading.Timer(0.2, core.gate.set).start()
    assert stage.position_um() == pytest.approx(0.0)
    wait_for(stage)


class Hanging:
    """A core with a device that answers nothing until ``gate`` opens."""

    def __init__(self):
        self.gate = threading.Event()

    def __getattr__(self, name):
        return lambda *_words: self.gate.wait(5.0) if name in ("loadSystemConfiguration", "unloadAllDevices") else None


def test_a_configuration_that_never_loads_is_not_waited_for_forever(open_camera, open_stage, monkeypatch):
    core = Hanging()
    monkeypatch.setattr("pymmcore.CMMCore", lambda: core)
    monkeypatch.setattr("hardware.micromanager.LOAD_S", 0.1)
    for opening, kind in ((open_camera, CameraError), (open_stage, StageError)):
        with pytest.raises(kind, match=r"has not loaded .*does not answer"):
            opening()
    core.gate.set()


def test_a_device_that_hangs_does_not_keep_the_camera_open(open_camera, monkeypatch):
    camera, hanging = open_camera(), Hanging()
    real = camera._core
    monkeypatch.setattr("hardware.micromanager.UNLOAD_S", 0.1)
    monkeypatch.setattr("hardware.micromanager._unload", lambda core: (hanging.gate.wait(5.0), core.unloadAllDevices()))
    began_s = time.monotonic()
    camera.close()
    assert time.monotonic() - began_s < 5.0
    hanging.gate.set()
    assert real is not open_camera()._core


def test_a_camera_that_hangs_in_its_adapter_is_given_up(open_camera, monkeypatch):
    camera, hanging = open_camera(timeout_s=0.1), Hanging()
    monkeypatch.setattr(camera, "_take", lambda: hanging.gate.wait(5.0))
    with pytest.raises(CameraDisconnected, match="did not finish within"):
        camera.snap()
    hanging.gate.set()


def test_a_closed_stage_says_so(open_stage):
    stage = open_stage()
    stage.close()
    stage.close()
    for call in (stage.position_um, stage.stop, stage.is_moving, lambda: stage.start_move_to(0.0)):
        with pytest.raises(StageDisconnected, match="closed"):
            call()
    assert stage.faults()
