"""What goes wrong with stage and camera, in the bar above the workspace, each with the one thing to do about it."""

from collections.abc import Callable

from app.bars import Bar, Bars, Choice
from app.capture.link import MicroscopeLink
from hardware.camera import CameraError
from hardware.stage import StageAlarm, StageDisconnected, StageError, StageNoReply, StagePortBusy, StageUnreferenced
from models.language import _


class Faults:
    """``connect``: open the microscope that is chosen. Homing and confirming are asked about before they are done."""

    def __init__(self, link: MicroscopeLink, bars: Bars, connect: Callable[[], None]) -> None:
        self._link, self._bars, self._connect = link, bars, connect
        self._of_stage: list[Bar] = []
        self._question: Bar | None = None
        self._event: Bar | None = None
        link.reference.asked.connect(self._show_question)
        link.stage.back.connect(self._stage_is_back)
        link.told.connect(lambda text: self._show_event(bars.show_look("", text)))
        link.stage.changed.connect(self._look_again)

    def show(self, source: str, text: str, error: StageError | CameraError) -> None:
        """A bar that names the device, what happened and one action."""
        action = self._way_out(error)
        self._end_event()
        bar = self._bars.show_fault(source, text, *(() if action is None else (action,)))
        if isinstance(error, StageDisconnected | StageNoReply | StageUnreferenced | StageAlarm):
            self._remember(bar)

    def ask_home(self) -> None:
        """Homing begins only when the button of this bar is pressed."""
        self._remember(
            self._bars.show_look(
                self._stage_name,
                _(
                    "Homing drives the stage until it finds its reference switch, perhaps through its whole travel. "
                    "Move the objective and the sample out of its way first. STOP halts it at any time."
                ),
                (_("Home Now"), self._link.reference.home),
            )
        )

    def ask_confirm(self) -> None:
        """The position counts only when the button of this bar is pressed."""
        z_um = self._link.z_um
        if z_um is None:
            return
        self._remember(
            self._bars.show_look(
                self._stage_name,
                _(
                    "Is the stage really at {z:.2f} µm? Limits and heights will be counted from there; if it is wrong, "
                    "the next move can drive the objective into the sample. Nothing moves now."
                ).format(z=z_um),
                (_("It Is Right"), self._link.reference.confirm),
            )
        )

    def _show_question(self) -> None:
        """What a capture waits for stays until it is answered."""
        if self._question is not None:
            self._question.dismiss()
            self._question = None
        question, device = self._link.reference.question, self._link.device
        if question is not None and device is not None:
            answer = self._link.reference.answer
            self._end_event()
            self._question = self._bars.show_question(
                device.source_of(question.error),
                question.text,
                *((way.title, lambda way=way: answer(way)) for way in question.ways),
            )

    @property
    def _stage_name(self) -> str:
        return self._link.device.stage_name if self._link.device else ""

    def _way_out(self, error: StageError | CameraError) -> Choice | None:
        # Looked up when it is pressed: a change of language in between builds the workspace anew.
        if self._link.device is None:
            return _("Try Again"), lambda: self._connect()
        if isinstance(error, StageUnreferenced | StageAlarm):
            if self._link.can_home:
                return _("Home…"), self.ask_home
            return _("This Position Is Right…"), self.ask_confirm
        if isinstance(error, CameraError | StageDisconnected | StageNoReply | StagePortBusy):
            return _("Reconnect"), self._link.reconnect
        return None

    def _remember(self, bar: Bar) -> None:
        self._of_stage.append(bar)
        bar.dismissed.connect(lambda: self._of_stage.remove(bar) if bar in self._of_stage else None)

    def _forget(self) -> None:
        for bar in tuple(self._of_stage):
            bar.dismiss()

    def _stage_is_back(self) -> None:
        self._forget()
        if not self._link.stage.faults:
            self._show_event(self._bars.show_info(_("{stage} answers again.").format(stage=self._stage_name)))

    def _show_event(self, bar: Bar) -> None:
        """A loss that is waited for, or its end: what was told before holds no longer."""
        if self._event is not bar:
            self._end_event()
        self._event = bar
        bar.dismissed.connect(lambda: self._forget_event(bar))

    def _end_event(self) -> None:
        if self._event is not None:
            self._event.dismiss()

    def _forget_event(self, bar: Bar) -> None:
        if self._event is bar:
            self._event = None

    def _look_again(self) -> None:
        if self._link.stage.referenced and not self._link.stage.faults:
            self._forget()
