"""How the stack is turned into heights."""

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QPushButton, QVBoxLayout, QWidget

from app.fields import Form, NumberField, OddField, hint
from app.surface.ticks import number
from app.theme import set_role
from models.errors import InputError
from models.height_map import HeightMap
from models.language import N_, _
from models.methods import METHODS, ReconstructionOptions, find_method

ALIGNMENTS = (
    ("shift", N_("Sideways"), N_("Remove movement in x and y")),
    ("similarity", N_("Sideways and size"), N_("Also remove the change of magnification with focus")),
)
GOOD_START = 1.0
TIP = Qt.ItemDataRole.ToolTipRole


class ReconstructionPanel(QWidget):
    """Edits :class:`ReconstructionOptions` and asks for a reconstruction."""

    valueChanged = Signal(object)
    reconstructRequested = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._is_filling = False
        self._stabilise = True  # no field of its own, but kept as it was given
        self.method = QComboBox()
        for method in METHODS.values():
            self.method.addItem(_(method.title), method.name)
            self.method.setItemData(self.method.count() - 1, f"{_(method.summary)}\n{method.source}", TIP)
        # The long titles may be cut in the narrow column; the list that opens shows them whole.
        self.method.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.method.setMinimumContentsLength(12)
        self.method.view().setMinimumWidth(300)
        self._summary = hint()
        self.window_px = OddField(1, 101)
        self.window_px.setSuffix(" px")
        self.window_px.setToolTip(
            _("Side of the square over which focus is summed: small keeps detail, large is steadier")
        )
        self.align = QCheckBox(_("Align frames"))
        self.align.setToolTip(_("Measure how the picture moves between the frames, and undo it"))
        self.alignment = QComboBox()
        for name, title, tip in ALIGNMENTS:
            self.alignment.addItem(_(title), name)
            self.alignment.setItemData(self.alignment.count() - 1, _(tip), TIP)
        self._drift = hint()
        self.regularise = QCheckBox(_("Smooth where weak"))
        self.regularise.setToolTip(_("Let confident neighbours decide where a pixel's own focus peak is weak"))
        self.strength = NumberField("", 0.01, 100.0, digits=2, step=0.5)
        self.strength.setToolTip(_("Strength of the smoothing; 1 is a good start"))
        self.strength.setValue(GOOD_START)
        self.start = QPushButton(_("Reconstruct"))
        self.start.setToolTip(_("Compute the height map of the open stack with these settings (F5)"))
        set_role(self.start, "primary")
        self.start.clicked.connect(lambda: self.reconstructRequested.emit(self.value()))

        form = Form()
        self.method.setAccessibleName(_("Method"))
        form.wide(self.method)
        form.wide(self._summary)
        form.row(_("Window"), self.window_px)
        form.wide(self.align)
        form.row(_("Remove"), self.alignment)
        form.wide(self._drift)
        form.wide(self.regularise)
        form.row(_("Strength"), self.strength)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        layout.addWidget(form)
        layout.addWidget(self.start)

        self.setValue(ReconstructionOptions())
        self.set_drift(None)
        for box in (self.method, self.alignment):
            box.currentIndexChanged.connect(self._tell)
        for check in (self.align, self.regularise):
            check.toggled.connect(self._tell)
        self.window_px.edited.connect(self._tell)
        self.strength.edited.connect(self._tell)

    def value(self) -> ReconstructionOptions:
        return ReconstructionOptions(
            method=self.method.currentData(),
            window=self.window_px.value(),
            align=self.alignment.currentData() if self.align.isChecked() else "none",
            regularisation=self.strength.value() if self.regularise.isChecked() else 0.0,
            stabilise=self._stabilise,
        )

    def setValue(self, options: ReconstructionOptions) -> None:
        before = self.value()
        self._is_filling = True
        self.method.setCurrentIndex(max(0, self.method.findData(options.method)))
        self.window_px.show_value(options.window)
        self.align.setChecked(options.align != "none")
        if options.align != "none":
            self.alignment.setCurrentIndex(self.alignment.findData(options.align))
        self.regularise.setChecked(options.regularisation > 0)
        if options.regularisation > 0:
            self.strength.show_value(options.regularisation)
        self._stabilise = options.stabilise
        self._is_filling = False
        self._refresh()
        if self.value() != before:
            self.valueChanged.emit(self.value())

    def show_value(self, options: ReconstructionOptions) -> None:
        """Show without telling: nobody chose these."""
        with QSignalBlocker(self):
            self.setValue(options)

    def set_drift(self, drift_px: NDArray[np.float64] | None, magnification: NDArray[np.float64] | None = None) -> None:
        """Show what the alignment measured: ``drift_px`` (n, 2) and ``magnification`` (n,); None hides it."""
        self._drift.setVisible(drift_px is not None)
        if drift_px is None or len(drift_px) == 0:
            self._drift.setVisible(False)
            return
        text = _("Measured drift: up to {pixels} px").format(
            pixels=number(float(np.hypot(drift_px[:, 0], drift_px[:, 1]).max()), 2)
        )
        if magnification is not None and magnification.size and np.ptp(magnification) > 0:
            percent = number(100 * float(np.abs(magnification - 1).max()), 2)
            text += ", " + _("size up to {percent} %").format(percent=percent)
        self._drift.setText(text)

    def set_can_start(self, can_start: bool) -> None:
        """Whether there is a stack to reconstruct."""
        self.start.setEnabled(can_start)

    def _tell(self) -> None:
        if not self._is_filling:
            self._refresh()
            self.valueChanged.emit(self.value())

    def _refresh(self) -> None:
        self._summary.setText(_(METHODS[self.method.currentData()].summary))
        self.alignment.setEnabled(self.align.isChecked())
        self.strength.setEnabled(self.regularise.isChecked())


def options_of(height_map: HeightMap) -> ReconstructionOptions | None:
    """The options that made the map; None where it does not say, or says what cannot be."""
    known = ReconstructionOptions.model_fields
    stored = {name: value for name, value in height_map.parameters.items() if name in known}
    try:
        find_method(height_map.method)
        return ReconstructionOptions(**{**stored, "method": height_map.method})
    except (InputError, ValidationError):
        return None
