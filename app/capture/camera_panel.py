"""Exposure, gain and bit depth of the camera."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QVBoxLayout, QWidget

from app.actions import Actions
from app.fields import Form, NumberField
from app.top_bar import ActionButton
from hardware.camera import CameraRanges, CameraSettings
from models.language import _


class CameraPanel(QWidget):
    """``settingsChosen`` carries what the user wants; what the camera took comes back by :meth:`show_settings`."""

    settingsChosen = Signal(object)

    def __init__(self, actions: Actions) -> None:
        super().__init__()
        self._settings = CameraSettings()
        self.exposure = NumberField("ms", 0.01, 10_000.0, digits=2)
        self.gain = NumberField("×", 1.0, 1.0, digits=2, step=0.1)
        self.bits = QComboBox()
        self.auto_contrast = QCheckBox(_("Auto contrast (display only)"))
        self.auto_contrast.setToolTip(actions["auto_contrast"].toolTip())
        self.auto_contrast.setChecked(actions["auto_contrast"].isChecked())
        form = Form()
        form.row(_("Exposure"), self.exposure, ActionButton(actions["auto_exposure"], text=_("Auto")))
        form.row(_("Gain"), self.gain, self.bits)
        form.wide(self.auto_contrast)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(form)
        self.exposure.edited.connect(lambda value: self._choose(exposure_ms=value))
        self.gain.edited.connect(lambda value: self._choose(gain=value))
        self.bits.activated.connect(lambda _index: self._choose(bit_depth=self.bits.currentData()))
        self.bits.setAccessibleName(_("Bit depth"))
        self.bits.setToolTip(_("Bits per pixel"))
        self.auto_contrast.clicked.connect(actions["auto_contrast"].trigger)
        actions["auto_contrast"].toggled.connect(self.auto_contrast.setChecked)

    def show_ranges(self, ranges: CameraRanges | None) -> None:
        self.setEnabled(ranges is not None)
        if ranges is None:
            return
        self.exposure.setRange(*ranges.exposure_ms)
        self.gain.setRange(*ranges.gain)
        self.gain.setEnabled(ranges.gain[0] < ranges.gain[1])
        self.bits.clear()
        for bits in ranges.bit_depths:
            self.bits.addItem(_("{n} bit").format(n=bits), bits)

    def show_settings(self, settings: CameraSettings) -> None:
        self._settings = settings
        self.exposure.show_value(settings.exposure_ms)
        self.gain.show_value(settings.gain)
        self.bits.setCurrentIndex(self.bits.findData(settings.bit_depth))

    def _choose(self, **change: float | int) -> None:
        self.settingsChosen.emit(self._settings.model_copy(update=change))
