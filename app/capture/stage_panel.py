"""Position of the stage and the ways to move it by hand."""

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.actions import Actions
from app.capture.z_scale import ZScale
from app.fields import NumberField, Segments, hint
from app.theme import set_role
from app.top_bar import ActionButton
from models.language import _

STEP_ACTIONS = ("step_fine", "step_medium", "step_coarse")
FIELD_WIDTH = 104


class StagePanel(QWidget):
    """``jogged``: relative um; ``heightChosen``: absolute um."""

    jogged = Signal(float)
    heightChosen = Signal(float)
    stepsChanged = Signal(object, int)

    def __init__(self, actions: Actions, steps_um: tuple[float, float, float], step: int) -> None:
        super().__init__()
        self._steps_um = list(steps_um)
        self.scale = ZScale()
        self.up = ActionButton(actions["stage_up"], show_icon=True, text=" ")
        self.down = ActionButton(actions["stage_down"], show_icon=True, text=" ")
        self.steps = Segments([_step_text(step_um) for step_um in steps_um])
        self.steps.set_index(step)
        for button, name in zip(self.steps.buttons, STEP_ACTIONS, strict=True):
            button.setToolTip(actions[name].toolTip())
        self.step = NumberField("µm", 0.01, 10_000.0, digits=2)
        self.step.show_value(self._steps_um[step])
        self.go_to = NumberField("µm", -1e6, 1e6, digits=2)
        for field in (self.step, self.go_to):
            field.setFixedWidth(FIELD_WIDTH)
        right = QVBoxLayout()
        right.setSpacing(6)
        right.addWidget(self.up)
        right.addWidget(self.down)
        right.addWidget(ActionButton(actions["autofocus"], show_icon=True, text=_("Focus")))
        right.addStretch(1)
        for caption, field in ((_("Go to"), self.go_to), (_("Step"), self.step)):
            label = hint(caption)
            label.setBuddy(field)
            field.setAccessibleName(caption)
            right.addWidget(label)
            right.addWidget(field)
        upper = QHBoxLayout()
        upper.setSpacing(10)
        upper.addWidget(self.scale, 1)
        upper.addLayout(right)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        self.unknown = QFrame()
        set_role(self.unknown, "bar-look")
        self.unknown_text = QLabel()
        self.unknown_text.setWordWrap(True)
        self.home = ActionButton(actions["home"])
        self.confirm = ActionButton(actions["confirm_position"])
        inside = QVBoxLayout(self.unknown)
        inside.setContentsMargins(10, 6, 8, 8)
        inside.addWidget(self.unknown_text)
        buttons = QHBoxLayout()
        buttons.addWidget(self.home)
        buttons.addWidget(self.confirm, 1)
        inside.addLayout(buttons)
        self.unknown.hide()
        column.addWidget(self.unknown)
        column.addLayout(upper)
        column.addWidget(self.steps)
        actions["stage_up"].triggered.connect(lambda: self.jog(1))
        actions["stage_down"].triggered.connect(lambda: self.jog(-1))
        self.scale.stepped.connect(self.jog)
        self.scale.heightChosen.connect(self.heightChosen)
        self.go_to.edited.connect(self._go)
        self.go_to.editingFinished.connect(lambda: self.go_to.lineEdit().deselect())
        self.steps.chosen.connect(lambda index: actions[STEP_ACTIONS[index]].trigger())
        self.step.edited.connect(self._change_step)
        for index, name in enumerate(STEP_ACTIONS):
            actions[name].triggered.connect(lambda _on, index=index: self.choose_step(index))
        actions[STEP_ACTIONS[step]].setChecked(True)
        actions["go_to"].changed.connect(lambda: self.go_to.setEnabled(actions["go_to"].isEnabled()))
        actions["go_to"].triggered.connect(self._focus_go_to)

    @property
    def step_um(self) -> float:
        """The step of the jog buttons, keys and wheel."""
        return self._steps_um[self.steps.index]

    def jog(self, direction: int) -> None:
        self.jogged.emit(direction * self.step_um)

    def choose_step(self, index: int) -> None:
        self.steps.set_index(index)
        self.step.show_value(self._steps_um[index])
        self._tell_steps()

    def show_limits(self, limits_um: tuple[float, float] | None) -> None:
        self.scale.show_limits(limits_um)
        self.setEnabled(limits_um is not None)
        if limits_um is not None:
            self.go_to.setRange(*limits_um)

    def show_position(self, z_um: float | None, target_um: float | None) -> None:
        self.scale.show_position(z_um, target_um)
        if z_um is not None and not self.go_to.hasFocus():
            self.go_to.show_value(z_um)

    def show_condition(self, faults: Sequence[str], *, referenced: bool, can_home: bool) -> None:
        """What is wrong with the stage; where it does not know its position, the two ways to learn it."""
        self.unknown_text.setText(faults[0] if faults else _("The stage does not know where it is."))
        self.home.setVisible(can_home)
        self.unknown.setVisible(bool(faults) or not referenced)

    def _change_step(self, step_um: float) -> None:
        index = self.steps.index
        self._steps_um[index] = step_um
        self.steps.buttons[index].setText(_step_text(step_um))
        self._tell_steps()

    def _tell_steps(self) -> None:
        self.stepsChanged.emit(tuple(self._steps_um), self.steps.index)

    def _go(self, z_um: float) -> None:
        # It is disabled while the stage moves: the cursor would slip into the next field, and the next number with it.
        self.go_to.clearFocus()
        self.heightChosen.emit(z_um)

    def _focus_go_to(self) -> None:
        self.go_to.setFocus()
        self.go_to.selectAll()


def _step_text(step_um: float) -> str:
    return f"{step_um:g} µm"
