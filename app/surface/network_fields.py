"""What concerns networks only: whose weights, and what runs them."""

import importlib.util
from pathlib import Path

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QComboBox, QFileDialog, QWidget

from models.errors import InputError
from models.language import N_, _
from models.methods import Engine
from models.networks.weights import SUFFIX, shipped_weights, weights_network

ENGINES: tuple[tuple[Engine, str, str], ...] = (
    ("auto", N_("Automatic"), N_("The fastest one here; measured the first time, then remembered")),
    ("torch", "PyTorch", N_("On the processor, in full precision")),
    ("torch-bf16", "PyTorch bf16", N_("On the processor, in half the precision: faster where it knows such numbers")),
    ("openvino", "OpenVINO", N_("On the processor; for whole stacks, not while a map grows")),
    ("cuda", "CUDA", N_("On a graphics card by NVIDIA")),
)
TIP = Qt.ItemDataRole.ToolTipRole


class EngineBox(QComboBox):
    """What runs a network; the data of an entry is its name."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        for name, title, tip in ENGINES:
            if name != "openvino" or importlib.util.find_spec("openvino") is not None:
                self.addItem(_(title), name)
                self.setItemData(self.count() - 1, _(tip), TIP)

    def choose(self, name: str) -> None:
        """Automatic where this machine does not have it."""
        self.setCurrentIndex(max(0, self.findData(name)))


class WeightsBox(QComboBox):
    """The weights that come with the program, or a file of one's own.

    ``chosen`` carries the network whose weights were chosen; ``refused`` why a file cannot be used.
    """

    chosen = Signal(str)
    refused = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip(_("What the network has learned: as it comes with the program, or a file of your own"))
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.network = ""
        self._path: str | None = None
        self._fill()
        self.activated.connect(self._on_activated)

    @property
    def path(self) -> str | None:
        """The file of one's own; None for the weights of the program."""
        return self._path

    def show_value(self, network: str, path: str | None) -> None:
        """Show the weights of ``network`` without telling."""
        if (network, path) != (self.network, self._path):
            self.network, self._path = network, path
            self._fill()

    @property
    def is_missing(self) -> bool:
        """Whether there are none: the program has none for this network, and no file is chosen."""
        return self._path is None and shipped_weights(self.network) is None

    def _fill(self) -> None:
        with QSignalBlocker(self):
            self.clear()
            self.addItem(_("Shipped") if shipped_weights(self.network) is not None else _("None shipped"), "shipped")
            if self._path is not None:
                self.addItem(Path(self._path).name, "own")
                self.setItemData(1, self._path, TIP)
            self.addItem(_("Choose File…"), "choose")
            self.setCurrentIndex(0 if self._path is None else 1)

    def _on_activated(self, index: int) -> None:
        wish = self.itemData(index)
        if wish == "choose":
            self._fill()
            self._ask()
        elif wish == "shipped" and self._path is not None:
            self.show_value(self.network, None)
            self.chosen.emit(self.network)

    def _ask(self) -> None:
        folder = str(Path(self._path).parent) if self._path else ""
        name, _filter = QFileDialog.getOpenFileName(
            self.window(), _("Choose Weights"), folder, _("Weights ({patterns})").format(patterns=f"*{SUFFIX}")
        )
        if not name:
            return
        try:
            network = weights_network(Path(name))
        except InputError as error:
            self.refused.emit(str(error))
            return
        self.show_value(network, name)
        self.chosen.emit(network)
