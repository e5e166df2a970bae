"""A height map as a picture for reports: coloured, with colour bar and scale bar."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.colour_maps import COLOUR_MAPS, MISSING_RGB, colourise, lut, robust_range
from models.errors import InputError
from models.height_map import Flag, HeightMap
from models.language import _

Content = Literal["height", "confidence", "all-in-focus"]
CONTENTS: tuple[Content, ...] = get_args(Content)

_PAPER = (255, 255, 255)
_INK = (32, 33, 36)
_QUIET = (110, 113, 118)
_SMALLEST_SIDE_PX = 480
_UNITS = {"um": "µm", "frame": "frames"}
"""Symbols rather than words of a language: the font inside the program has Latin letters only."""


@dataclass(frozen=True)
class PictureStyle:
    """What a picture shows. ``low`` and ``high``: the ends of the colours, by default without the 0.5 % outliers.

    ``hill_shade`` adds light from the upper left, which shows shape that colour alone hides.
    ``mark_uncertain`` hatches heights whose focus peak is missing or lies on the first or last frame.
    """

    content: Content = "height"
    colour_map: str = COLOUR_MAPS[0]
    low: float | None = None
    high: float | None = None
    hill_shade: bool = False
    mark_uncertain: bool = False


def write_picture(height_map: HeightMap, path: Path, style: PictureStyle) -> None:
    """Write the picture as PNG. Raises InputError where the content asked for is missing."""
    draw_picture(height_map, style).save(path, format="PNG", optimize=False, compress_level=6)


def draw_picture(height_map: HeightMap, style: PictureStyle) -> Image.Image:
    """The picture with its legend. Small maps are enlarged by a whole factor, without smoothing."""
    pixels, colours = _content(height_map, style)
    factor = max(1, math.ceil(_SMALLEST_SIDE_PX / max(height_map.shape)))
    pixel_um = None if height_map.pixel_um is None else height_map.pixel_um / factor
    uncertain = None
    if style.mark_uncertain and style.content == "height":
        flagged = height_map.has_flag(Flag.PEAK_AT_END | Flag.NO_PEAK) & np.isfinite(height_map.height_um)
        uncertain = _enlarged(flagged, factor) if flagged.any() else None
    return _Sheet(_enlarged(pixels, factor), pixel_um, colours, style.colour_map, uncertain).draw()


def _enlarged(image: NDArray[Any], factor: int) -> NDArray[Any]:
    return np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)


def nice_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 x 10^n that divides ``span`` into at most ``most`` parts."""
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    # The tolerance keeps a step that fits exactly from being lost to rounding.
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= rough * (1 - 1e-9))


def hill_shade(height_um: NDArray[np.float32], pixel_um: float | None) -> NDArray[np.float32]:
    """Brightness (H, W) of the surface under light from the upper left, 1 where flat or unknown.

    Slopes are scaled so that the steeper tenth of the surface is lit at about 45 degrees: a picture has to
    show the shape of a mirror and of a rasp alike.
    """
    known = np.isfinite(height_um)
    if not known.any():
        return np.ones_like(height_um)
    heights = np.where(known, height_um, np.nanmedian(height_um)).astype(np.float32)
    heights = cv2.GaussianBlur(heights, (0, 0), 0.8)  # single pixels of noise would shade as strongly as edges
    down, right = np.gradient(heights, pixel_um or 1.0) if min(heights.shape) > 1 else (0 * heights, 0 * heights)
    unsafe = cv2.dilate((~known).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    steep = float(np.percentile(np.hypot(down, right)[~unsafe], 90)) if not unsafe.all() else 0.0
    if steep <= 0:
        return np.ones_like(height_um)
    down, right = down / steep, right / steep
    # Light from the upper left at 45 degrees; the surface normal is (-right, -down, 1) in image axes.
    light = np.array([-0.5, -0.5, math.sqrt(0.5)])
    shade = (-right * light[0] - down * light[1] + light[2]) / np.sqrt(1 + right**2 + down**2) / light[2]
    shade[unsafe] = 1.0
    return np.asarray(np.clip(shade, 0.0, 1.4), dtype=np.float32)


@dataclass(frozen=True)
class _Colours:
    """What the colour bar says: its range, its unit, and whether values lie beyond its ends."""

    low: float
    high: float
    unit: str
    below: bool = False
    above: bool = False
    has_missing: bool = False


def _content(height_map: HeightMap, style: PictureStyle) -> tuple[NDArray[np.uint8], _Colours | None]:
    """RGB pixels (H, W, 3) and their colour bar, None for a photograph."""
    if style.content == "all-in-focus":
        if height_map.all_in_focus is None:
            raise InputError(_("This height map holds no all-in-focus image."))
        return _photograph(height_map.all_in_focus), None
    if style.content == "confidence":
        colours = _Colours(0.0, 1.0, "confidence", has_missing=not np.isfinite(height_map.confidence).all())
        return colourise(height_map.confidence, style.colour_map, 0.0, 1.0), colours
    heights = height_map.height_um
    low, high = robust_range(heights)
    low, high = (low if style.low is None else style.low), (high if style.high is None else style.high)
    pixels = colourise(heights, style.colour_map, low, high)
    if style.hill_shade:
        shade = hill_shade(heights, height_map.pixel_um)[..., None]
        pixels = np.clip(pixels * (0.4 + 0.6 * shade), 0, 255).astype(np.uint8)
    finite = heights[np.isfinite(heights)]
    colours = _Colours(
        low,
        high,
        _UNITS[height_map.z_unit],
        below=bool((finite < low).any()),
        above=bool((finite > high).any()),
        has_missing=finite.size < heights.size,
    )
    return pixels, colours


def _photograph(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.uint16:  # a camera's 12 bits would look black: show the range that is used
        low, high = robust_range(image, percent=0.1)
        image = np.clip((image.astype(np.float32) - low) * (255 / max(high - low, 1)), 0, 255).astype(np.uint8)
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


class _Sheet:
    """Lays out one picture: the map, the colour bar on its right, the scale bar below it."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        pixel_um: float | None,
        colours: _Colours | None,
        colour_map: str,
        uncertain: NDArray[np.bool_] | None,
    ) -> None:
        self._pixels, self._pixel_um = pixels, pixel_um
        self._colours, self._colour_map = colours, colour_map
        self._height, self._width = pixels.shape[:2]
        self._em = int(np.clip(max(self._height, self._width) / 42, 13, 72))
        font = ImageFont.load_default(size=self._em)
        assert isinstance(font, ImageFont.FreeTypeFont)  # every Pillow wheel has FreeType
        self._font = font
        self._line = max(1, round(self._em / 14))
        self._uncertain = uncertain
        if uncertain is not None:
            self._pixels = np.where((uncertain & self._hatch(uncertain.shape))[..., None], np.uint8(255), pixels)

    def draw(self) -> Image.Image:
        em = self._em
        margin = round(1.6 * em)
        legend_width = self._legend_width()
        explained = self._explained()
        has_footer = self._pixel_um is not None or bool(explained)
        footer_height = round(2.6 * em) if has_footer else 0
        sheet = Image.new(
            "RGB",
            (2 * margin + self._width + legend_width, 2 * margin + self._height + footer_height),
            _PAPER,
        )
        pen = ImageDraw.Draw(sheet)
        sheet.paste(Image.fromarray(self._pixels), (margin, margin))
        if self._colours is not None:
            self._draw_colour_bar(pen, sheet, margin + self._width + round(1.4 * em), margin, self._colours)
        baseline = margin + self._height + round(1.2 * em)
        if self._pixel_um is not None:
            self._draw_scale_bar(pen, sheet, margin, baseline, self._pixel_um)
        right = margin + self._width
        for label, swatch in explained:
            right = self._draw_explanation(sheet, label, swatch, right, baseline)
        return sheet

    def _hatch(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Thin diagonal lines, wide enough apart to leave the colours readable."""
        row, column = np.ogrid[: shape[0], : shape[1]]
        return np.asarray((row + column) % max(5, round(0.75 * self._em)) < self._line)

    def _explained(self) -> list[tuple[str, NDArray[np.uint8]]]:
        """Labels and sample patches of what is no plain height, the rightmost first."""
        size = round(0.9 * self._em)
        patches = []
        if self._colours is not None and self._colours.has_missing:
            patches.append(("missing", np.full((size, size, 3), MISSING_RGB, np.uint8)))
        if self._uncertain is not None:
            plain = np.full((size, size, 3), lut(self._colour_map)[100], np.uint8)
            patches.append(("uncertain", np.where(self._hatch((size, size))[..., None], np.uint8(255), plain)))
        return patches

    def _legend_width(self) -> int:
        if self._colours is None:
            return 0
        labels = [self._colours.unit, *self._tick_labels(self._colours).values()]
        widest = max(self._font.getlength(label) for label in labels)
        return round(1.4 * self._em + 1.1 * self._em + 0.9 * self._em + widest)

    def _tick_labels(self, colours: _Colours) -> dict[float, str]:
        """Value and text of every tick, round numbers inside the range."""
        span = colours.high - colours.low
        if span <= 0:
            return {colours.low: _number(colours.low, 2)}
        room = max(2, min(8, round(self._height / (3.2 * self._em))))
        step = nice_step(span, room)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(colours.low / step - 1e-6)
        last = math.floor(colours.high / step + 1e-6)
        return {n * step: _number(n * step, decimals) for n in range(first, last + 1)}

    def _draw_colour_bar(self, pen: ImageDraw.ImageDraw, sheet: Image.Image, x: int, y: int, colours: _Colours) -> None:
        em, line = self._em, self._line
        width = round(1.1 * em)
        self._write(sheet, colours.unit, x, y + round(0.5 * em))
        cap = round(0.8 * em)
        top = y + round(1.7 * em) + (cap if colours.above else 0)
        height = max(4 * em, y + self._height - top - (cap if colours.below else 0))
        values = np.linspace(colours.high, colours.low, height, dtype=np.float32)[:, None]
        ramp = colourise(np.repeat(values, width, axis=1), self._colour_map, colours.low, colours.high)
        sheet.paste(Image.fromarray(ramp), (x, top))
        # A pointed end says that the surface goes on beyond the colours.
        highest, lowest = tuple(int(c) for c in ramp[0, 0]), tuple(int(c) for c in ramp[-1, 0])
        right, bottom = x + width - 1, top + height - 1
        if colours.above:
            pen.polygon([(x, top - 1), (right, top - 1), ((x + right) / 2, top - cap)], fill=highest)
        if colours.below:
            pen.polygon([(x, bottom + 1), (right, bottom + 1), ((x + right) / 2, bottom + cap)], fill=lowest)
        span = colours.high - colours.low
        labels = self._tick_labels(colours)
        label_end = right + round(0.8 * em) + max(self._font.getlength(label) for label in labels.values())
        for value, label in labels.items():
            share = (value - colours.low) / span if span > 0 else 0.5
            tick_y = bottom - share * (height - 1)
            pen.line([(right + 1, tick_y), (right + round(0.35 * em), tick_y)], fill=_QUIET, width=line)
            self._write(sheet, label, label_end - self._font.getlength(label), tick_y)

    def _draw_scale_bar(self, pen: ImageDraw.ImageDraw, sheet: Image.Image, x: int, y: int, pixel_um: float) -> None:
        length_um = nice_step(self._width * pixel_um / 4, 1) if self._width > 1 else pixel_um
        if length_um > self._width * pixel_um / 2:
            length_um /= 2
        length_px = round(length_um / pixel_um)
        thickness = max(2, round(self._em / 4))
        middle = y + round(0.5 * self._em)
        pen.rectangle((x, middle - thickness // 2, x + length_px - 1, middle - thickness // 2 + thickness - 1), _INK)
        label = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
        self._write(sheet, label, x + length_px + round(0.7 * self._em), middle)

    def _draw_explanation(self, sheet: Image.Image, label: str, patch: NDArray[np.uint8], right: int, y: int) -> int:
        """Patch and label that end at ``right``; returns where the next one may end."""
        middle = y + round(0.5 * self._em)
        text_x = right - round(self._font.getlength(label))
        self._write(sheet, label, text_x, middle, _QUIET)
        left = text_x - round(0.5 * self._em) - int(patch.shape[1])
        sheet.paste(Image.fromarray(patch), (left, middle - patch.shape[0] // 2))
        return left - round(1.5 * self._em)

    def _write(self, sheet: Image.Image, text: str, x: float, middle: float, ink: tuple[int, int, int] = _INK) -> None:
        """Text from ``x`` to the right, centred on ``middle``. Pillow's own font has no µ: a u gets its tail here."""
        ascent, descent = self._font.getmetrics()
        plain = text.replace("µ", "u")
        mask = Image.new("L", (math.ceil(self._font.getlength(plain)) + self._em, ascent + descent + 2))
        ImageDraw.Draw(mask).text((0, ascent), plain, 255, self._font, anchor="ls")
        if "µ" in text:
            strokes = np.array(mask)
            start = int(self._font.getlength(plain[: text.index("µ")]))
            stem = strokes[ascent - self._em // 4, start : start + self._em // 2]
            first = int(np.argmax(stem > 0))
            width = int(np.argmin(stem[first:] > 0))
            bottom = ascent + self._font.getbbox("p", anchor="ls")[3]
            strokes[ascent - self._em // 4 : int(bottom), start + first : start + first + width] = stem[
                first : first + width
            ]
            mask = Image.fromarray(strokes)
        sheet.paste(ink, (round(x), round(middle - (ascent + descent) / 2)), mask)


def _number(value: float, decimals: int) -> str:
    """A number that is never a negative zero."""
    text = f"{value:.{decimals}f}"
    return text if float(text) else text.lstrip("-")
