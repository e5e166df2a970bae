"""The bar that asks for the step between the frames and the pixel size of an opened stack."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QFrame, QHBoxLayout, QLabel, QToolButton

from app.fields import NumberField
from app.theme import icon, set_role
from models.focal_stack import FocalStack
from models.language import _


class ScaleBar(QFrame):
    """``scaleChosen``: step in um or None, pixel size in um or None, whether the first frame is the highest.

    Every change takes effect at once; a value of 0 means "not known".
    """

    scaleChosen = Signal(object, object, bool)

    def __init__(self) -> None:
        super().__init__()
        set_role(self, "bar-look")
        self._text = QLabel()
        self.step = NumberField("µm", 0.0, 100_000.0, digits=3)
        self.pixel = NumberField("µm", 0.0, 100_000.0, digits=4)
        for field in (self.step, self.pixel):
            field.setSpecialValueText(_("unknown"))
            field.setFixedWidth(110)
            field.edited.connect(self._tell)
        self.downwards = QCheckBox(_("First frame is the highest"))
        self.downwards.clicked.connect(self._tell)
        aside = QToolButton()
        set_role(aside, "flat")
        aside.setIcon(icon("close"))
        aside.setToolTip(_("Put aside; find it again under Reconstruct, Step and Pixel Size"))
        aside.setAccessibleName(_("Put aside"))
        aside.clicked.connect(self.hide)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 6, 8, 6)
        row.setSpacing(8)
        row.addWidget(self._text)
        row.addSpacing(8)
        for caption, field in ((_("Step"), self.step), (_("Pixel"), self.pixel)):
            label = QLabel(caption)
            set_role(label, "hint")
            label.setBuddy(field)
            field.setAccessibleName(caption)
            row.addWidget(label)
            row.addWidget(field)
        row.addWidget(self.downwards)
        row.addStretch(1)
        row.addWidget(aside)
        self.hide()

    def show_stack(self, stack: FocalStack) -> None:
        known = stack.z_unit == "um"
        self.step.show_value(stack.step_um if known else 0.0)
        self.pixel.show_value(stack.pixel_um or 0.0)
        self.downwards.setChecked(bool(stack.z_um[-1] < stack.z_um[0]))
        self._text.setText(
            _("Scale of this stack") if known else _("Heights count frames. How far apart are the frames?")
        )
        set_role(self, "bar-info" if known else "bar-look")

    def _tell(self) -> None:
        self.scaleChosen.emit(self.step.value() or None, self.pixel.value() or None, self.downwards.isChecked())
