"""What is open: a stack, its height map and the file they live in."""

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from models.focal_stack import FocalStack
from models.height_map import HeightMap


class Document(QObject):
    """One stack and one height map; every view reads them here and listens for a change.

    Lives in the window thread. The signals carry nothing: a listener reads the attribute.
    """

    stackChanged = Signal()
    heightMapChanged = Signal()
    pathChanged = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.stack: FocalStack | None = None
        self.height_map: HeightMap | None = None
        self.path: Path | None = None

    @property
    def title(self) -> str:
        """What a person calls it: the file name, or nothing."""
        return self.path.name if self.path else ""

    def set_stack(self, stack: FocalStack | None, path: Path | None = None) -> None:
        """Open ``stack``; the height map of the one before is dropped."""
        self.stack, self.height_map, self.path = stack, None, path
        self.pathChanged.emit()
        self.stackChanged.emit()
        self.heightMapChanged.emit()

    def set_height_map(self, height_map: HeightMap | None) -> None:
        self.height_map = height_map
        self.heightMapChanged.emit()

    def take_map_of(self, stack: FocalStack, height_map: HeightMap) -> None:
        """A map computed from ``stack``, which got another scale meanwhile. Of any other stack: ignored."""
        if self.stack is not None and self.stack.frames is stack.frames:
            self.set_height_map(rescaled_map(height_map, stack, self.stack))

    def close(self) -> None:
        self.set_stack(None)

    def set_scale(self, *, step_um: float | None, pixel_um: float | None, downwards: bool | None = None) -> None:
        """Give the open stack its scale; the height map follows at once, without a new reconstruction.

        ``downwards``: the first frame is the highest. None leaves the direction as it is.
        """
        if self.stack is None:
            return
        before = self.stack
        self.stack = rescaled_stack(before, step_um=step_um, pixel_um=pixel_um, downwards=downwards)
        if self.height_map is not None:
            self.height_map = rescaled_map(self.height_map, before, self.stack)
        self.stackChanged.emit()
        self.heightMapChanged.emit()


def rescaled_stack(
    stack: FocalStack, *, step_um: float | None, pixel_um: float | None, downwards: bool | None = None
) -> FocalStack:
    """The same frames with another distance between them, in um; what is None stays as it is."""
    z_um, z_unit = stack.z_um, stack.z_unit
    if step_um is not None:
        z_um, z_unit = z_um * (step_um / stack.step_um), "um"
    if downwards is not None and downwards != bool(z_um[-1] < z_um[0]):
        z_um = -z_um
    return replace(stack, z_um=z_um, z_unit=z_unit, pixel_um=pixel_um if pixel_um is not None else stack.pixel_um)


def rescaled_map(height_map: HeightMap, before: FocalStack, after: FocalStack) -> HeightMap:
    """``height_map`` of ``before`` as the map of ``after``, whose heights are a multiple of the old ones."""
    factor = (after.z_um[-1] - after.z_um[0]) / (before.z_um[-1] - before.z_um[0])
    height_um = ((height_map.height_um - before.z_um[0]) * factor + after.z_um[0]).astype("float32")
    intervals = {
        name: None if interval is None else (interval * abs(factor)).astype("float32")
        for name, interval in (
            ("interval68_um", height_map.interval68_um),
            ("interval95_um", height_map.interval95_um),
        )
    }
    return replace(height_map, height_um=height_um, z_unit=after.z_unit, pixel_um=after.pixel_um, **intervals)
