"""How the height map is shown: colours, light, stretch, what is hidden."""

from dataclasses import dataclass

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QIcon, QImage, QPixmap
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QPushButton, QSlider, QVBoxLayout, QWidget

from app.fields import Form, NumberField
from app.surface.ticks import decimals, number, round_step
from app.surface.view3d import Texture
from app.theme import tabular
from models.colour_maps import COLOUR_MAPS, lut
from models.language import N_, _

TEXTURES: tuple[tuple[Texture, str], ...] = (
    ("height", N_("Height")),
    ("all_in_focus", N_("All-in-focus image")),
    ("confidence", N_("Confidence")),
)

FIELD_WIDTH = 84


@dataclass(frozen=True)
class Display:
    """``exaggeration`` and ``height_range``: None leaves the choice to the view."""

    colour_map: str = COLOUR_MAPS[0]
    texture: Texture = "height"
    hill_shade: float = 0.85
    exaggeration: float | None = None
    height_range: tuple[float, float] | None = None
    threshold: float = 0.0
    flags_opacity: float = 0.0
    dim_untrusted: bool = True


class DisplayPanel(QWidget):
    """Edits a :class:`Display`."""

    valueChanged = Signal(object)
    resetRequested = Signal()
    topRequested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._is_filling = False
        self.colour_map = QComboBox()
        self.colour_map.setIconSize(QSize(64, 12))
        for name in COLOUR_MAPS:
            self.colour_map.addItem(_swatch(name), name, name)
        self.colour_map.setToolTip(_("Even steps in height look like even steps in colour in all of these"))
        self.texture = QComboBox()
        for name, title in TEXTURES:
            self.texture.addItem(_(title), name)
        self.texture.setToolTip(_("What is laid over the surface in 3D"))
        self.hill_shade = Fraction(_("Strength of the light on the surface"))
        self.exaggeration = NumberField("×", 0.001, 100000.0, digits=2)
        self.exaggeration.setToolTip(_("How many times heights are stretched against x and y"))
        self.auto_exaggeration = _auto(_("Choose the stretch so that the relief is well visible"))
        self.low = NumberField("", -1e7, 1e7, digits=2)
        self.low.setToolTip(_("Height at the lower end of the colours"))
        self.high = NumberField("", -1e7, 1e7, digits=2)
        self.high.setToolTip(_("Height at the upper end of the colours"))
        self.auto_range = _auto(_("Take the range from the map, without its outermost half percent"))
        self.threshold = Fraction(_("Pixels with less confidence become holes in every view"))
        self.flags_opacity = Fraction(_("Amber over pixels whose height is not to be trusted"))
        for field in (self.exaggeration, self.low, self.high):
            field.setMinimumWidth(FIELD_WIDTH)  # its own idea of a width has room for every number of the range
        self.dim_untrusted = QCheckBox(_("Grey out doubtful pixels in 3D"))
        self.dim_untrusted.setToolTip(_("Pixels without a focus peak, or with the peak on the first or last frame"))

        form = Form()
        form.row(_("Colours"), self.colour_map)
        form.row(_("Surface"), self.texture)
        form.row(_("Light"), self.hill_shade)
        form.row(_("Stretch z"), self.exaggeration, self.auto_exaggeration)
        form.row(_("Highest"), self.high, self.auto_range)
        form.row(_("Lowest"), self.low)
        form.row(_("Hide below"), self.threshold)
        form.row(_("Mark flags"), self.flags_opacity)
        form.wide(self.dim_untrusted)
        self.reset = QPushButton(_("Reset view"))
        self.reset.setToolTip(_("Show the whole surface and the whole image again (Home in the 3D view)"))
        self.reset.clicked.connect(self.resetRequested)
        self.top = QPushButton(_("From top"))
        self.top.setToolTip(_("Look straight down (T in the 3D view)"))
        self.top.clicked.connect(self.topRequested)
        buttons = QHBoxLayout()
        buttons.setSpacing(6)
        buttons.addWidget(self.reset, 1)
        buttons.addWidget(self.top, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        layout.addWidget(form)
        layout.addLayout(buttons)

        self.setValue(Display())
        for box in (self.colour_map, self.texture):
            box.currentIndexChanged.connect(self._tell)
        for field in (self.exaggeration, self.low, self.high):
            field.edited.connect(self._tell)
        for fraction in (self.hill_shade, self.threshold, self.flags_opacity):
            fraction.valueChanged.connect(self._tell)
        for check in (self.auto_exaggeration, self.auto_range, self.dim_untrusted):
            check.toggled.connect(self._tell)

    def value(self) -> Display:
        return Display(
            colour_map=self.colour_map.currentData(),
            texture=self.texture.currentData(),
            hill_shade=self.hill_shade.value(),
            exaggeration=None if self.auto_exaggeration.isChecked() else self.exaggeration.value(),
            height_range=None if self.auto_range.isChecked() else self._typed_range(),
            threshold=self.threshold.value(),
            flags_opacity=self.flags_opacity.value(),
            dim_untrusted=self.dim_untrusted.isChecked(),
        )

    def setValue(self, display: Display) -> None:
        before = None if self._is_filling else self.value()
        self._is_filling = True
        self.colour_map.setCurrentIndex(max(0, self.colour_map.findData(display.colour_map)))
        self.texture.setCurrentIndex(max(0, self.texture.findData(display.texture)))
        self.hill_shade.setValue(display.hill_shade)
        self.auto_exaggeration.setChecked(display.exaggeration is None)
        if display.exaggeration is not None:
            self.exaggeration.show_value(display.exaggeration)
        self.auto_range.setChecked(display.height_range is None)
        if display.height_range is not None:
            self.low.show_value(display.height_range[0])
            self.high.show_value(display.height_range[1])
        self.threshold.setValue(display.threshold)
        self.flags_opacity.setValue(display.flags_opacity)
        self.dim_untrusted.setChecked(display.dim_untrusted)
        self._is_filling = False
        self._enable()
        if self.value() != before:
            self.valueChanged.emit(self.value())

    def show_exaggeration(self, factor: float) -> None:
        """What the view chose; shown while the choice is automatic."""
        if self.auto_exaggeration.isChecked():
            self.exaggeration.show_value(factor)

    def set_is_scaled(self, is_scaled: bool) -> None:
        """Whether x, y and z are all in micrometres: only then is the stretch a true factor."""
        self.exaggeration.setSuffix(" ×" if is_scaled else "")

    def show_range(self, low: float, high: float, unit: str) -> None:
        """The range that the view chose; shown while the choice is automatic."""
        digits = min(4, decimals(round_step(high - low, 10)) + 1)
        for field, height in ((self.low, low), (self.high, high)):
            field.setSuffix(f" {unit}")
            if self.auto_range.isChecked():
                field.setDecimals(digits)
                field.setSingleStep(round_step(high - low, 50))
                field.show_value(height)

    def _typed_range(self) -> tuple[float, float]:
        low, high = self.low.value(), self.high.value()
        # Typed in the wrong order is understood; no height at all between them is widened to what can be drawn.
        low, high = min(low, high), max(low, high)
        return (low, high) if high > low else (low, low + 10.0 ** -self.low.decimals())

    def _tell(self) -> None:
        if not self._is_filling:
            self._enable()
            self.valueChanged.emit(self.value())

    def _enable(self) -> None:
        self.exaggeration.setEnabled(not self.auto_exaggeration.isChecked())
        self.low.setEnabled(not self.auto_range.isChecked())
        self.high.setEnabled(not self.auto_range.isChecked())


class Fraction(QWidget):
    """A slider from 0 to 100 percent with its value beside it."""

    valueChanged = Signal(float)

    def __init__(self, tip: str) -> None:
        super().__init__()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 100)
        self.slider.setPageStep(10)
        self.slider.setToolTip(tip)
        self.slider.setAccessibleDescription(tip)
        self._label = QLabel()
        self._label.setFont(tabular(self._label.font()))
        self._label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._label.setFixedWidth(self._label.fontMetrics().horizontalAdvance("100 %") + 2)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self.slider, 1)
        row.addWidget(self._label)
        self.setFocusProxy(self.slider)
        self.slider.valueChanged.connect(self._on_changed)
        self._on_changed(0)

    def value(self) -> float:
        return self.slider.value() / 100.0

    def setValue(self, fraction: float) -> None:
        self.slider.setValue(round(100 * fraction))

    def _on_changed(self, percent: int) -> None:
        self._label.setText(f"{number(percent, 0)} %")
        self.valueChanged.emit(percent / 100.0)


def _auto(tip: str) -> QCheckBox:
    box = QCheckBox(_("auto"))
    box.setChecked(True)
    box.setToolTip(tip)
    return box


def _swatch(name: str) -> QIcon:
    row = lut(name)[None, ::4, :].copy()
    image = QImage(row.tobytes(), row.shape[1], 1, 3 * row.shape[1], QImage.Format.Format_RGB888)
    return QIcon(QPixmap.fromImage(image.scaled(64, 12)))
