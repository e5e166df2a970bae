"""The height map in three dimensions, with its colour bar, ready to be fed live."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QHBoxLayout, QLabel, QStackedLayout, QVBoxLayout, QWidget

from app.surface.colour_bar import ColourBar
from app.surface.graphics import graphics
from app.surface.layers import (
    CONFIDENCE_MAP,
    UNTRUSTED,
    display_range,
    grey_range,
    height_unit,
    hide_weak,
    to_rgb8,
)
from app.theme import set_role
from models.colour_maps import lut
from models.height_map import HeightMap
from models.language import _

Texture = Literal["height", "all_in_focus", "confidence"]

LIVE_CELLS = {True: 256, False: 512}
"""Cells a side while the map grows, by whether the drawing is done in software."""
SETTLED_CELLS = {True: 1024, False: 2048}
RELIEF = 0.16
"""Height of the relief in units of the larger side, at the automatic exaggeration."""
DIMMED = 90
"""Trust, 0 to 255, at which pixels are drawn that carry a flag."""
PICTURE_PIXELS = 2048


class SurfaceView(QWidget):
    """A 3D view of a height map.

    ``colour_map``, ``texture``, ``hill_shade``, ``exaggeration``, ``height_range``, ``threshold`` and
    ``dim_untrusted`` may be set at any time. Where OpenGL is missing the view says so and everything
    else keeps working.
    """

    cursorMoved = Signal(int, int)
    """Row and column of the pixel under the mouse."""
    cursorLeft = Signal()
    heightRangeChanged = Signal(float, float)
    """Heights at the ends of the colour bar."""
    exaggerationChanged = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._height_map: HeightMap | None = None
        self._is_moving = False
        self._colour_map = "viridis"
        self._texture: Texture = "height"
        self._exaggeration: float | None = None
        self._shown_exaggeration = 1.0
        self._height_range: tuple[float, float] | None = None
        self._shown_range = (0.0, 1.0)
        self._threshold = 0.0
        self._dim_untrusted = True

        self.colour_bar = ColourBar()
        self.colour_bar.hide()
        self._message = QLabel(alignment=Qt.AlignmentFlag.AlignCenter, wordWrap=True)
        set_role(self._message, "hint")
        self._message.setMargin(24)
        self._empty_text = ""
        picture = QWidget()
        row = QHBoxLayout(picture)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        self._scene = self._open_scene()
        if self._scene is not None:
            row.addWidget(self._scene, 1)
        row.addWidget(self.colour_bar)
        self.setBackgroundRole(QPalette.ColorRole.Base)
        self.setAutoFillBackground(True)
        self._pages = QStackedLayout()
        self._pages.addWidget(self._message)
        self._pages.addWidget(picture)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._pages)
        self.setFocusProxy(self._scene)

    def _open_scene(self):
        """The scene, or None with the reason on show where this machine cannot draw in 3D."""
        fault = graphics().fault
        if fault:
            self._give_up(fault)
            return None
        from app.surface.scene import SurfaceScene  # fails to load where the system has no OpenGL library

        scene = SurfaceScene()
        scene.failed.connect(self._give_up)
        scene.hovered.connect(lambda row, column: self.cursorMoved.emit(round(row), round(column)))
        scene.left.connect(self.cursorLeft)
        scene.setToolTip(
            _("Drag: turn. Right drag or Shift: move. Wheel: zoom. Double click or Home: reset. T: from the top.")
        )
        return scene

    def _give_up(self, reason: str) -> None:
        self._message.setText(
            _(
                "The 3D view is not available on this computer: {reason}\n\n"
                "Height, confidence and all-in-focus images work as usual. "
                "To see the surface in 3D, install the driver of the graphics card."
            ).format(reason=reason)
        )
        self._scene = None
        if hasattr(self, "_pages"):
            self._pages.setCurrentIndex(0)

    @property
    def is_available(self) -> bool:
        """Whether this machine can draw in 3D."""
        return self._scene is not None

    @property
    def scene(self):
        """The OpenGL widget, or None where this machine cannot draw in 3D."""
        return self._scene

    # What is shown

    def set_empty_text(self, text: str) -> None:
        """What to say while there is no height map."""
        self._empty_text = text
        if self._height_map is None and self.is_available:
            self._message.setText(text)

    def set_height_map(self, height_map: HeightMap | None, *, moving: bool = False) -> None:
        """Show ``height_map``. ``moving``: more will follow soon, so draw a thinned grid; the camera stays."""
        self._height_map = height_map
        self._is_moving = moving
        if self._scene is None:
            return
        if height_map is None or min(height_map.shape) < 2:
            self._scene.item.clear()
            self._scene.heights = None
            self.colour_bar.hide()
            self._message.setText(self._empty_text)
            self._pages.setCurrentIndex(0)
            return
        self._pages.setCurrentIndex(1)
        self._show()

    def _show(self) -> None:
        height_map, scene = self._height_map, self._scene
        if height_map is None or scene is None:
            return
        cells = (LIVE_CELLS if self._is_moving else SETTLED_CELLS)[scene.is_software]
        step = -(-max(height_map.shape) // cells)
        # At least two rows and columns, or there is no surface to draw.
        step = min(step, min(height_map.shape) - 1)
        thin = (slice(None, None, step), slice(None, None, step))
        z = hide_weak(height_map.height_um[thin], height_map.confidence[thin], self._threshold)
        trust = np.full(z.shape, 255, np.uint8)
        if self._dim_untrusted:
            trust[(height_map.flags[thin] & np.uint8(UNTRUSTED)) != 0] = DIMMED
        scene.heights = z
        scene.cell_pixels = step
        scene.cell_um = None if height_map.pixel_um is None else height_map.pixel_um * step
        scene.item.set_heights(z, trust)
        self._update_range(z)
        self._update_texture()

    def _update_range(self, z) -> None:
        low, high = self._height_range if self._height_range is not None else display_range(z)
        scene, height_map = self._scene, self._height_map
        if (low, high) != self._shown_range:
            self._shown_range = (low, high)
            self.heightRangeChanged.emit(low, high)
        bottom, top = _clamp(z, low, high)
        rows, columns = height_map.shape
        pixel = height_map.pixel_um if height_map.pixel_um is not None else 1.0
        per_unit = scene.item.SIZE / (pixel * max(rows, columns))
        true_relief = (top - bottom) * per_unit / scene.item.SIZE
        exaggeration = self._exaggeration if self._exaggeration is not None else _round_down(RELIEF / true_relief)
        if exaggeration != self._shown_exaggeration:
            self._shown_exaggeration = exaggeration
            self.exaggerationChanged.emit(exaggeration)
        scale = per_unit * exaggeration
        middle = (bottom + top) / 2
        scene.item.range = (low, high)
        scene.item.clamp = (bottom, top)
        scene.item.lift = (middle, scale)
        scene.base = (bottom - middle) * scale
        scene.fit()

    def _update_texture(self) -> None:
        height_map, scene = self._height_map, self._scene
        if height_map is None or scene is None:
            return
        texture = self._texture
        if texture == "all_in_focus" and height_map.all_in_focus is None:
            texture = "height"
        if texture == "height":
            scene.item.use_picture = False
            scene.item.set_colours(lut(self._colour_map))
            self.colour_bar.set_colour_map(self._colour_map)
            self.colour_bar.set_range(*self._shown_range, height_unit(height_map))
        else:
            limit = LIVE_CELLS[scene.is_software] if self._is_moving else PICTURE_PIXELS
            step = -(-max(height_map.shape) // limit)
            if texture == "confidence":
                grey = np.clip(height_map.confidence[::step, ::step] * 255.0, 0, 255).astype(np.uint8)
                scene.item.set_picture(lut(CONFIDENCE_MAP)[grey])
                self.colour_bar.set_colour_map(CONFIDENCE_MAP)
                self.colour_bar.set_range(0.0, 1.0, "")
            else:
                image = height_map.all_in_focus[::step, ::step]
                scene.item.set_picture(to_rgb8(image, grey_range(image)))
            scene.item.use_picture = True
        self.colour_bar.setVisible(texture != "all_in_focus")

    # Properties

    def set_display(self, **properties: Any) -> None:
        """Set several of the properties below at once, by name; only what differs costs anything."""
        heights_changed = False
        for name, value in properties.items():
            if name == "hill_shade":
                self._set_hill_shade(value)
                continue
            heights_changed |= name in ("threshold", "dim_untrusted") and value != getattr(self, f"_{name}")
            setattr(self, f"_{name}", value)
        if heights_changed:
            self._show()
        else:
            self._refresh_range()

    @property
    def colour_map(self) -> str:
        return self._colour_map

    @property
    def texture(self) -> Texture:
        """What colours the surface. Without an all-in-focus image the height does."""
        return self._texture

    @property
    def hill_shade(self) -> float:
        """Strength of the light, 0 (flat colours) to 1."""
        return self._scene.item.hill_shade if self._scene is not None else 0.0

    @property
    def exaggeration(self) -> float:
        """Stretch of z against x and y as drawn. None in :meth:`set_display` is the automatic choice."""
        return self._shown_exaggeration

    @property
    def height_range(self) -> tuple[float, float]:
        """Heights at the ends of the colour map as drawn. None in :meth:`set_display` is the automatic choice."""
        return self._shown_range

    @property
    def threshold(self) -> float:
        """Pixels with less confidence are holes."""
        return self._threshold

    @property
    def dim_untrusted(self) -> bool:
        """Draw pixels grey whose flag says that they are not to be trusted."""
        return self._dim_untrusted

    def _set_hill_shade(self, strength: float) -> None:
        if self._scene is not None:
            self._scene.item.hill_shade = float(strength)
            self._scene.update()

    def _refresh_range(self) -> None:
        if self._height_map is not None and self._scene is not None and self._scene.heights is not None:
            self._update_range(self._scene.heights)
            self._update_texture()

    # Camera and marks

    def reset_camera(self) -> None:
        if self._scene is not None:
            self._scene.reset_camera()

    def look_from_top(self) -> None:
        if self._scene is not None:
            self._scene.look_from_top()

    def set_marker(self, pixel: tuple[float, float] | None) -> None:
        """Ring around the surface point of pixel (row, column); None removes it."""
        if self._scene is not None and self._scene.marker != pixel:
            self._scene.marker = pixel
            self._scene.update()

    def set_line(self, line: tuple[tuple[float, float], tuple[float, float]] | None) -> None:
        """Draw the profile line from one (row, column) to another over the surface; None removes it."""
        if self._scene is not None:
            self._scene.line = line
            self._scene.update()


def _clamp(z: NDArray[np.float32], low: float, high: float) -> tuple[float, float]:
    """Lowest and highest height to be drawn: those of the map, but no stray peak far outside the colours."""
    slack = 0.05 * (high - low)
    finite = np.isfinite(z)
    if not finite.any():
        return low, high
    bottom = max(low - slack, float(np.min(z, where=finite, initial=np.inf)))
    top = min(high + slack, float(np.max(z, where=finite, initial=-np.inf)))
    # Everything may lie outside a typed range: then the end of the range is drawn.
    return (bottom, top) if bottom < top else (low, high)


def _round_down(value: float) -> float:
    """The largest short number that is not above ``value``: an exaggeration that can be read and does not flicker."""
    if not (value > 0 and np.isfinite(value)):
        return 1.0
    decade = 10.0 ** np.floor(np.log10(value))
    return float(
        max(factor * decade for factor in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if factor * decade <= value * 1.000001)
    )
