"""How the stack is turned into heights."""

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QPushButton, QVBoxLayout, QWidget

from app.fields import Form, NumberField, OddField, hint
from app.surface.method_box import MethodBox
from app.surface.network_fields import EngineBox, WeightsBox
from app.surface.ticks import number
from app.theme import set_role
from models.errors import InputError
from models.height_map import HeightMap
from models.language import N_, _
from models.methods import ReconstructionOptions, find_method

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
        self.method = MethodBox()
        self._summary = hint()
        self.weights = WeightsBox()
        self.engine = EngineBox()
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
        # The workspace places it, below what scrolls: always in reach.
        self.start = QPushButton(_("Reconstruct"))
        self.start.setToolTip(_("Compute the height map of the open stack with these settings (F5)"))
        set_role(self.start, "primary")
        self.start.clicked.connect(lambda: self.reconstructRequested.emit(self.value()))

        form = Form()
        form.wide(self.method)
        form.wide(self._summary)
        self._of_networks = (
            form.row(_("Weights"), self.weights),
            self.weights,
            form.row(_("Engine"), self.engine),
            self.engine,
        )
        self._of_others = (form.row(_("Window"), self.window_px), self.window_px)
        form.wide(self.align)
        form.row(_("Remove"), self.alignment)
        form.wide(self._drift)
        form.wide(self.regularise)
        form.row(_("Strength"), self.strength)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        layout.addWidget(form)

        self.setValue(ReconstructionOptions())
        self.set_drift(None)
        for box in (self.method, self.alignment, self.engine):
            box.currentIndexChanged.connect(self._tell)
        for check in (self.align, self.regularise):
            check.toggled.connect(self._tell)
        self.window_px.edited.connect(self._tell)
        self.strength.edited.connect(self._tell)
        self.weights.chosen.connect(self._on_weights_chosen)
        self.weights.refused.connect(self._on_weights_refused)

    def value(self) -> ReconstructionOptions:
        is_network = find_method(self.method.name()).kind == "network"
        return ReconstructionOptions(
            method=self.method.name(),
            window=self.window_px.value(),
            align=self.alignment.currentData() if self.align.isChecked() else "none",
            regularisation=self.strength.value() if self.regularise.isChecked() else 0.0,
            stabilise=self._stabilise,
            weights=self.weights.path if is_network else None,
            engine=self.engine.currentData() if is_network else "auto",
        )

    def setValue(self, options: ReconstructionOptions) -> None:
        before = self.value()
        self._is_filling = True
        self.method.choose(options.method)
        self.weights.show_value(self.method.name(), options.weights)
        self.engine.choose(options.engine)
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

    def _on_weights_chosen(self, network: str) -> None:
        """The network of a file is the method: weights fit no other."""
        self._is_filling = True
        self.method.choose(network)
        self._is_filling = False
        self._tell()

    def _on_weights_refused(self, reason: str) -> None:
        self._summary.setText(reason)
        set_role(self._summary, "amber")

    def _refresh(self) -> None:
        method = find_method(self.method.name())
        is_network = method.kind == "network"
        if method.name != self.weights.network:  # own weights were for the network before
            self.weights.show_value(method.name, None)
        for widgets, shown in ((self._of_networks, is_network), (self._of_others, not is_network)):
            for widget in widgets:
                widget.setVisible(shown)
        lacks_weights = is_network and self.weights.is_missing
        missing = _("No weights of this network come with the program: choose a file of yours.")
        self._summary.setText(missing if lacks_weights else _(method.summary))
        set_role(self._summary, "amber" if lacks_weights else "hint")
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
