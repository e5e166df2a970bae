"""Stacks that the hardware times: controller and camera are wired to each other, the program only collects.

Pictures carry no height of their own here: that the n-th picture shows the n-th height rests on none being lost. So
a stack is taken in blocks that fit into memory, and a block counts only when as many pictures came as there were
heights, when the camera's own clock says that each began at its height - in its move, or so long after the one before
as the controller stands at a height - and when the stage then stands where the block ends. Whatever of it is in doubt
is thrown away and taken again, frame by frame, by the program.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from hardware.camera import Camera, CameraDisconnected, CameraError, Picture, TriggeredCamera
from hardware.motion import FocusAxis
from hardware.recovery import Recovery
from hardware.stage import ScanLeader, ScanRequest, StageError
from models.language import _

BLOCK_BYTES = 512 * 1024 * 1024
MOST_IN_A_BLOCK = 100
READOUT_MS = 20.0
SLACK_S = 1.0
MORE_S = 0.05
"""A picture too many comes within this time after the last."""
LEAST_STAND = 0.9
"""Of the time that the controller should stand at a height, at least this share lies between two pictures."""
OFF_HEIGHT = 0.1
"""A controller that rounds its steps may miss a height by this share of a step."""


@dataclass(frozen=True)
class Frame:
    """One frame of a sweep. ``image``: (H, W[, 3]) uint8 or uint16; ``time_s``: when its exposure began."""

    index: int
    z_requested_um: float
    z_measured_um: float
    image: NDArray[Any]
    time_s: float


def timed_frames(
    axis: FocusAxis,
    camera: Camera,
    heights_um: Sequence[float],
    cancel: threading.Event | None,
    recovery: Recovery,
) -> Iterator[Frame]:
    """The first frames of the stack, as far as the hardware can time them: all, some or none.

    ``recovery`` learns why it ended early. Raises StageError, CameraError after a fault; what was yielded stands.
    """
    scan = axis.scan
    if scan is None or (reason := _obstacle(axis, camera, heights_um, scan.scan_leader)):
        if scan is not None:
            recovery.note(_("The program times this stack, not the hardware: {reason}").format(reason=reason))
        return
    recovery.course.timing = scan.scan_leader
    done = 0
    for block in _blocks(camera, len(heights_um)):
        try:
            pictures = _block(axis, camera, [heights_um[index] for index in block], scan.scan_leader, cancel, recovery)
        except (StageError, CameraError):
            recovery.course.timing = f"{scan.scan_leader}, from frame {done} on program"
            raise
        for index, (z_um, picture) in zip(block, pictures, strict=True):
            yield Frame(index, heights_um[index], z_um, picture.image, picture.time_s)
        done = block.stop
        recovery.refuse_if_ended()


def _obstacle(axis: FocusAxis, camera: Camera, heights_um: Sequence[float], leader: ScanLeader) -> str:
    """Why the hardware cannot time this stack, a sentence; empty where it can."""
    if leader != "camera" and not isinstance(camera, TriggeredCamera):
        return _("{camera} has no trigger input.").format(camera=camera.name)
    if axis.settling.by == "image":
        return _("it cannot wait for a steady picture.")
    if leader == "moves" and (axis.settling.by != "time" or axis.settling.rest_ms > 0):
        return _("its pulse comes at the end of a move, before the stage has settled.")
    against = (heights_um[-1] - heights_um[0]) * axis.approach < 0
    if axis.backlash_um and leader != "stage":
        return _("it cannot take out the backlash.")
    if axis.backlash_um and against:
        return _("it cannot take out the backlash in this direction.")
    return ""


def _blocks(camera: Camera, frame_count: int) -> Iterator[range]:
    """Nearly equal blocks of at least two frames."""
    frame_bytes = camera.dtype.itemsize
    for length in camera.image_shape:
        frame_bytes *= length
    most = max(3, min(MOST_IN_A_BLOCK, BLOCK_BYTES // frame_bytes))
    count = -(-frame_count // most)
    for number in range(count):
        yield range(number * frame_count // count, (number + 1) * frame_count // count)


def _block(
    axis: FocusAxis,
    camera: Camera,
    heights_um: Sequence[float],
    leader: ScanLeader,
    cancel: threading.Event | None,
    recovery: Recovery,
) -> list[tuple[float, Picture]]:
    """(measured z, picture) of every height, none in doubt. Raises StageError, CameraError, StageStopped, Cancelled."""
    step_um = (heights_um[-1] - heights_um[0]) / (len(heights_um) - 1)
    request = ScanRequest(step_um, len(heights_um), axis.settling.rest_ms, camera.settings.exposure_ms + READOUT_MS)
    axis.move_to((heights_um[0] + heights_um[-1]) / 2 if leader == "camera" else heights_um[0], cancel)
    if leader == "camera":
        return _led_by_camera(axis, camera, request, heights_um, cancel, recovery)
    assert isinstance(camera, TriggeredCamera)
    with _armed(camera, len(heights_um) + 1):
        if leader == "moves":
            return _led_by_moves(axis, camera, request, heights_um, cancel, recovery)
        return _led_by_stage(axis, camera, request, heights_um, recovery)


def _led_by_camera(
    axis: FocusAxis,
    camera: Camera,
    request: ScanRequest,
    heights_um: Sequence[float],
    cancel: threading.Event | None,
    recovery: Recovery,
) -> list[tuple[float, Picture]]:
    """Each exposure steps the stage; where it stands is measured before each, so a lost pulse does not go unseen."""
    taken = []
    dropped = camera.dropped_frames
    with axis.scanning(request) as reached_um:
        _check_heights(axis, reached_um, heights_um)
        camera.snap()  # its pulse moves the stage to the first height
        for z_um in reached_um:
            measured_um = axis.wait_at([z_um], abs(request.step_um) / 4, cancel)
            settled_s = axis.clock.now()
            picture = camera.snap()
            recovery.check(picture, settled_s)
            taken.append((measured_um, picture))
    if camera.dropped_frames != dropped:  # each try was a pulse
        raise CameraError(_("{camera} lost a picture of the series.").format(camera=camera.name))
    return taken


def _led_by_moves(
    axis: FocusAxis,
    camera: TriggeredCamera,
    request: ScanRequest,
    heights_um: Sequence[float],
    cancel: threading.Event | None,
    recovery: Recovery,
) -> list[tuple[float, Picture]]:
    """The controller releases the camera the moment that it counts as on target."""
    taken = []
    patience_s = SLACK_S + request.exposure_ms / 1000.0
    with axis.scanning(request):
        for z_um in heights_um:
            begin_s = axis.clock.now()
            measured_um = axis.move_to(z_um, cancel)
            picture = camera.next_picture(patience_s)
            recovery.check(picture, begin_s)  # one of a second pulse at the height before began earlier
            taken.append((measured_um, picture))
        _refuse_more(camera)
    return taken


def _led_by_stage(
    axis: FocusAxis, camera: TriggeredCamera, request: ScanRequest, heights_um: Sequence[float], recovery: Recovery
) -> list[tuple[float, Picture]]:
    patience_s = SLACK_S + (request.settle_ms + request.exposure_ms) / 1000.0 + abs(request.step_um) / axis.speed_um_s
    stands_s = LEAST_STAND * (request.settle_ms + request.exposure_ms) / 1000.0
    pictures: list[Picture] = []
    earliest_s = axis.clock.now()
    with axis.scanning(request) as reached_um:
        _check_heights(axis, reached_um, heights_um)
        for _height in reached_um:
            picture = camera.next_picture(patience_s)
            if pictures and picture.time_s < earliest_s:
                raise _too_many(camera)
            recovery.check(picture, earliest_s)
            pictures.append(picture)
            earliest_s = picture.time_s + stands_s
            recovery.refuse_if_ended()
        axis.wait_at((reached_um[0], reached_um[-1]), axis.tolerance_um)  # some go back when they are done
        _refuse_more(camera)
    return list(zip(reached_um, pictures, strict=True))


def _check_heights(axis: FocusAxis, reached_um: Sequence[float], heights_um: Sequence[float]) -> None:
    """Raises StageError where the controller's steps are not those of the plan."""
    step_um = abs(heights_um[1] - heights_um[0])
    off_um = max(abs(a - b) for a, b in zip(reached_um, heights_um, strict=True))
    if off_um > OFF_HEIGHT * step_um:
        raise StageError(
            _("{stage} would miss heights of this stack by up to {off:.2f} µm when it times the stack itself.").format(
                stage=axis.name, off=off_um
            )
        )


def _refuse_more(camera: TriggeredCamera) -> None:
    """Raises CameraError where the camera took more pictures than there are heights, also where the last got lost."""
    dropped = camera.dropped_frames
    try:
        camera.next_picture(MORE_S)
    except CameraDisconnected:
        raise
    except CameraError:
        if camera.dropped_frames == dropped:  # none came, as it should be
            return
    raise _too_many(camera)


def _too_many(camera: TriggeredCamera) -> CameraError:
    return CameraError(
        _("{camera} took more pictures than there are heights. Let the controller give one pulse per height.").format(
            camera=camera.name
        )
    )


@contextmanager
def _armed(camera: TriggeredCamera, frame_count: int) -> Iterator[None]:
    camera.arm(frame_count)
    try:
        yield
    finally:
        camera.disarm()
