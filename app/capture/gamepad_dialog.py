"""The page of the gamepad: what it does, live, so that nobody enables it unseen."""

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtGui import QCloseEvent, QKeyEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QGridLayout,
    QLabel,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from app.capture.gamepad import Gamepad, deflection
from app.fields import CountField, Form, NumberField, hint
from app.settings import GamepadSettings
from app.theme import set_role
from models.language import _

WIDTH = 420


class GamepadDialog(QDialog):
    """``on_escape`` is told of Esc, which also means STOP."""

    def __init__(self, parent: QWidget, gamepad: Gamepad, on_escape: Callable[[], None]) -> None:
        super().__init__(parent)
        self.setWindowTitle(_("Gamepad"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        set_role(self, "page")
        self._gamepad, self._on_escape = gamepad, on_escape
        self.name = QLabel()
        set_role(self.name, "heading")
        self.axes: list[QProgressBar] = []
        self._axes_place = QGridLayout()
        self.pressed = QLabel()
        self.result = QLabel()
        settings = gamepad.settings
        self.axis = CountField(1, 64)
        self.axis.show_value(settings.axis + 1)
        self.up_is_negative = QCheckBox(_("The stick pushed away moves up"))
        self.up_is_negative.setChecked(settings.up_is_negative)
        self.hold = CountField(1, 64)
        self.hold.show_value(settings.hold_button + 1)
        self.stop = CountField(1, 64)
        self.stop.show_value(settings.stop_button + 1)
        self.dead_zone = NumberField("%", 5, 90, digits=0, step=5)
        self.dead_zone.show_value(100 * settings.dead_zone)
        self.top_speed = NumberField("µm/s", 0.1, 10_000, digits=1)
        self.top_speed.show_value(settings.top_speed_um_s)
        self.enable = QCheckBox(_("Move the stage with this gamepad"))
        self._arrange()
        for field in (self.axis, self.hold, self.stop, self.dead_zone, self.top_speed):
            field.edited.connect(self._change)
        self.up_is_negative.toggled.connect(self._change)
        self.enable.toggled.connect(gamepad.enable)
        gamepad.changed.connect(self._show)
        gamepad.watch(True)
        self._show()

    def _arrange(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 14, 16, 14)
        column.setSpacing(10)
        column.addWidget(self.name)
        column.addWidget(
            hint(_("Move every stick, press every button: see the right ones react before they may move anything."))
        )
        column.addLayout(self._axes_place)
        column.addWidget(self.pressed)
        form = Form()
        form.row(_("Stick, number"), self.axis)
        form.wide(self.up_is_negative)
        form.row(_("Button to hold while moving"), self.hold)
        form.row(_("Button for STOP"), self.stop)
        form.row(_("Dead zone"), self.dead_zone)
        form.row(_("Speed at full deflection"), self.top_speed)
        column.addWidget(form)
        column.addWidget(self.result)
        column.addWidget(self.enable)
        column.addWidget(
            hint(
                _(
                    "Letting the button or the stick go, or unplugging the pad, ends the motion. It has to be enabled "
                    "anew each time the program starts. A cable is safer than radio."
                )
            )
        )
        self.setFixedWidth(WIDTH)

    def _change(self, *_value: object) -> None:
        self._gamepad.enable(False)  # what is enabled is what was seen to work
        old = self._gamepad.settings
        old.axis, old.up_is_negative = self.axis.value() - 1, self.up_is_negative.isChecked()
        old.hold_button, old.stop_button = self.hold.value() - 1, self.stop.value() - 1
        old.dead_zone, old.top_speed_um_s = self.dead_zone.value() / 100, self.top_speed.value()
        self._show()

    def _show(self) -> None:
        gamepad, state = self._gamepad, self._gamepad.state
        self.name.setText(state.name if state else gamepad.problem or _("No gamepad is plugged in."))
        self.name.setWordWrap(True)
        self._show_axes(state.axes if state else ())
        numbers = [str(index + 1) for index, down in enumerate(state.buttons if state else ()) if down]
        self.pressed.setText(_("Buttons pressed: {numbers}").format(numbers=", ".join(numbers) or "–"))
        self.result.setText(self._words(gamepad.settings))
        self.enable.setEnabled(state is not None and gamepad.settings.hold_button != gamepad.settings.stop_button)
        if self.enable.isChecked() != gamepad.enabled:
            self.enable.blockSignals(True)
            self.enable.setChecked(gamepad.enabled)
            self.enable.blockSignals(False)

    def _words(self, settings: GamepadSettings) -> str:
        state = self._gamepad.state
        if settings.hold_button == settings.stop_button:
            return _("One button cannot do both. Choose another for STOP.")
        if state is not None and state.is_pressed(settings.stop_button):
            return _("STOP")
        speed_um_s = 0.0 if state is None else deflection(state, settings) * self._gamepad.top_um_s
        if state is None or speed_um_s == 0.0 or not state.is_pressed(settings.hold_button):
            return _("Stands still")
        words = _("Up, at most {speed:.1f} µm/s") if speed_um_s > 0 else _("Down, at most {speed:.1f} µm/s")
        return words.format(speed=abs(speed_um_s))

    def _show_axes(self, axes: tuple[float, ...]) -> None:
        while len(self.axes) < len(axes):
            bar = QProgressBar()
            bar.setRange(-100, 100)
            bar.setTextVisible(False)
            row = len(self.axes)
            self._axes_place.addWidget(QLabel(str(row + 1)), row, 0)
            self._axes_place.addWidget(bar, row, 1)
            self.axes.append(bar)
        for index, bar in enumerate(self.axes):
            bar.setValue(round(100 * axes[index]) if index < len(axes) else 0)

    def closeEvent(self, event: QCloseEvent) -> None:
        self._gamepad.watch(False)
        super().closeEvent(event)

    def done(self, result: int) -> None:
        self._gamepad.watch(False)
        super().done(result)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self._on_escape()
        super().keyPressEvent(event)
