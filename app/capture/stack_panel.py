"""Where the stack begins and ends, how many frames it has, and what it will cost."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from app.actions import Actions
from app.fields import CountField, Form, NumberField, Segments, hint
from app.status_line import data_size, duration, number
from app.theme import set_role, tabular
from app.top_bar import ActionButton
from hardware.sweep import MAX_FRAMES, Estimate, SweepPlan
from models.errors import InputError
from models.language import _

STEP_OF_DEPTH_OF_FIELD = 0.5
"""Half the depth of field between frames: neighbours overlap, so the peak is sampled from both sides."""
FIRST_RANGE_UM = 100.0


@dataclass(frozen=True)
class StackSetup:
    """What the user has set. The ends are kept as top and bottom, whichever way they were entered."""

    top_um: float | None = None
    bottom_um: float | None = None
    by_step: bool = True
    step_um: float = 2.0
    frame_count: int = 40

    def plan(self) -> SweepPlan | None:
        """The sweep from top to bottom; None until both ends are set. Raises InputError."""
        if self.top_um is None or self.bottom_um is None:
            return None
        if self.by_step:
            return SweepPlan.by_step(self.top_um, self.bottom_um, self.step_um)
        return SweepPlan.by_count(self.top_um, self.bottom_um, self.frame_count)


class StackPanel(QWidget):
    """Edits a :class:`StackSetup`. ``free_bytes`` and ``estimate`` are asked when the summary is drawn."""

    setupChanged = Signal(object)
    summaryChanged = Signal()

    def __init__(
        self, actions: Actions, estimate: Callable[[SweepPlan], Estimate | None], free_bytes: Callable[[], int]
    ) -> None:
        super().__init__()
        self._setup = StackSetup()
        self._estimate, self._free_bytes = estimate, free_bytes
        self._z_um: float | None = None
        self._limits_um: tuple[float, float] | None = None
        self._depth_of_field_um: float | None = None
        self.problem = ""
        self.ends = Segments([_("Top / bottom"), _("Centre / range")])
        self.first, self.second = NumberField("µm", -1e6, 1e6), NumberField("µm", -1e6, 1e6)
        self.first_here, self.second_here = QPushButton(_("Set here")), QPushButton(_("Set here"))
        self.first_here.setToolTip(actions["set_top"].toolTip())
        self.second_here.setToolTip(actions["set_bottom"].toolTip())
        form = Form()
        self._first_label = form.row(_("Top"), self.first, self.first_here)
        self._second_label = form.row(_("Bottom"), self.second, self.second_here)
        self.spacing = Segments([_("By step"), _("By frames")])
        self.step = NumberField("µm", 0.001, 10_000.0, digits=3)
        self.count = CountField(2, MAX_FRAMES)
        self.depth_of_field = ActionButton(actions["use_depth_of_field"], role="link", text=_("Use"))
        spacing = Form()
        self._step_label = spacing.row(_("Step"), self.step)
        self._count_label = spacing.row(_("Frame count"), self.count)
        self._depth_hint = hint()
        self.summary = PlanSummary()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        depth = QGridLayout()
        depth.addWidget(self._depth_hint, 0, 0)
        depth.addWidget(self.depth_of_field, 0, 1)
        depth.setColumnStretch(0, 1)
        for widget in (self.ends, form, self.spacing, spacing):
            column.addWidget(widget)
        column.addLayout(depth)
        self.ends.chosen.connect(lambda _index: self._show())
        self.first.edited.connect(lambda _value: self._read_ends())
        self.second.edited.connect(lambda _value: self._read_ends())
        self.spacing.chosen.connect(lambda index: self._change(by_step=index == 0))
        self.step.edited.connect(lambda value: self._change(step_um=value))
        self.count.edited.connect(lambda value: self._change(frame_count=value))
        self.first_here.clicked.connect(self._first_here)
        self.second_here.clicked.connect(actions["set_bottom"].trigger)
        actions["set_top"].triggered.connect(lambda: self._set_end("top_um"))
        actions["set_bottom"].triggered.connect(lambda: self._set_end("bottom_um"))
        actions["use_depth_of_field"].triggered.connect(self._use_depth_of_field)
        self._show()

    # --- value

    def value(self) -> StackSetup:
        return self._setup

    def set_value(self, setup: StackSetup) -> None:
        self._setup = setup
        self.spacing.set_index(0 if setup.by_step else 1)
        self._show()
        self.setupChanged.emit(setup)

    def plan(self) -> SweepPlan | None:
        """The plan, or None where it cannot be made; ``problem`` says why."""
        try:
            plan = self._setup.plan()
        except InputError as error:
            self.problem = str(error)
            return None
        self.problem = "" if plan else _("Set top and bottom of the stack.")
        if plan is None:
            return None
        if self._limits_um and not self._limits_um[0] <= plan.bottom_um < plan.top_um <= self._limits_um[1]:
            low, high = self._limits_um
            self.problem = _("The stack leaves the limits of the stage, {low:g} to {high:g} µm.").format(
                low=low, high=high
            )
            return None
        if (estimate := self._estimate(plan)) and estimate.bytes > self._free_bytes():
            self.problem = _("The disk has only {free} left; the stack needs {size}.").format(
                free=data_size(self._free_bytes()), size=data_size(estimate.bytes)
            )
            return None
        return plan

    # --- what the microscope says

    def show_position(self, z_um: float | None) -> None:
        self._z_um = z_um
        self.first_here.setEnabled(z_um is not None)
        self.second_here.setEnabled(z_um is not None)

    def show_limits(self, limits_um: tuple[float, float] | None) -> None:
        self._limits_um = limits_um
        self._show()

    def show_depth_of_field(self, depth_of_field_um: float | None) -> None:
        self._depth_of_field_um = depth_of_field_um
        self._show()

    # --- editing

    def _change(self, **change: object) -> None:
        self.set_value(replace(self._setup, **change))  # type: ignore[arg-type]

    def _centred(self) -> bool:
        return self.ends.index == 1

    def _read_ends(self) -> None:
        first, second = self.first.value(), self.second.value()
        if self._centred():
            self._change(top_um=first + second / 2, bottom_um=first - second / 2)
        else:
            self._change(top_um=first, bottom_um=second)

    def _first_here(self) -> None:
        if not self._centred():
            self._set_end("top_um")
        elif self._z_um is not None:
            range_um = self._range_um() or FIRST_RANGE_UM
            self._change(top_um=self._z_um + range_um / 2, bottom_um=self._z_um - range_um / 2)

    def _set_end(self, end: str) -> None:
        if self._z_um is not None:
            self._change(**{end: self._z_um})

    def _use_depth_of_field(self) -> None:
        if self._depth_of_field_um:
            self._change(by_step=True, step_um=round(STEP_OF_DEPTH_OF_FIELD * self._depth_of_field_um, 3))

    def _range_um(self) -> float | None:
        if self._setup.top_um is None or self._setup.bottom_um is None:
            return None
        return self._setup.top_um - self._setup.bottom_um

    # --- showing

    def _show(self) -> None:
        setup, centred, range_um = self._setup, self._centred(), self._range_um()
        self._first_label.setText(_("Centre") if centred else _("Top"))
        self._second_label.setText(_("Range") if centred else _("Bottom"))
        self.second_here.setVisible(not centred)
        if centred and range_um is not None and setup.bottom_um is not None:
            first, second = setup.bottom_um + range_um / 2, range_um
        else:
            first, second = setup.top_um or 0.0, setup.bottom_um or 0.0
        self.first.show_value(first)
        self.second.show_value(second)
        self.step.show_value(setup.step_um)
        self.count.show_value(setup.frame_count)
        for widget in (self.step, self._step_label):
            widget.setVisible(setup.by_step)
        for widget in (self.count, self._count_label):
            widget.setVisible(not setup.by_step)
        known = self._depth_of_field_um is not None
        self.depth_of_field.setVisible(known)
        self._depth_hint.setVisible(known)
        if self._depth_of_field_um is not None:
            self._depth_hint.setText(
                _("Half the depth of field: {step:.2f} µm").format(
                    step=STEP_OF_DEPTH_OF_FIELD * self._depth_of_field_um
                )
            )
            self._depth_hint.setToolTip(
                _("Depth of field {depth:.2f} µm, from the NA and magnification of the objective").format(
                    depth=self._depth_of_field_um
                )
            )
        self.refresh_summary()

    def refresh_summary(self) -> None:
        """Frames, real step, range, time and disk space of the present plan."""
        plan = self.plan()
        self.summary.show_plan(plan, self._estimate(plan) if plan else None)
        self.summaryChanged.emit()


class PlanSummary(QWidget):
    """What the plan amounts to, in numbers."""

    def __init__(self) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 4, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(3)
        self._values: list[QLabel] = []
        captions = (_("Frame count"), _("Step"), _("Range"), _("Needs"))
        for place, caption in enumerate(captions):
            row, column = divmod(place, 2)
            name, value = QLabel(caption), QLabel()
            set_role(name, "hint")
            value.setFont(tabular(value.font()))
            grid.addWidget(name, row, 2 * column)
            grid.addWidget(value, row, 2 * column + 1)
            self._values.append(value)
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(3, 1)

    def show_plan(self, plan: SweepPlan | None, estimate: Estimate | None) -> None:
        texts = ["—"] * 4
        if plan is not None:
            texts[:3] = [str(plan.frame_count), f"{plan.step_um:.3f} µm", f"{number(plan.range_um, 1)} µm"]
        if estimate is not None:
            texts[3] = f"{duration(estimate.seconds)}, {data_size(estimate.bytes)}"
        for label, text in zip(self._values, texts, strict=True):
            label.setText(text)
