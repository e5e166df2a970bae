"""Every action of the program, defined once: menus, buttons, palette and the list of shortcuts read it here."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PySide6.QtCore import QObject
from PySide6.QtGui import QAction, QActionGroup, QKeySequence

from app.theme import icon
from models.language import N_, _


@dataclass(frozen=True)
class ActionSpec:
    """``group``: of several checkable actions with the same group exactly one is on."""

    name: str
    menu: str
    text: str
    tip: str
    shortcut: str
    icon: str = ""
    checkable: bool = False
    group: str = ""


MENUS: dict[str, str] = {
    "file": N_("&File"),
    "view": N_("&View"),
    "stage": N_("S&tage"),
    "camera": N_("&Camera"),
    "stack": N_("&Stack"),
    "reconstruct": N_("&Reconstruct"),
    "help": N_("&Help"),
}

ACTIONS: tuple[ActionSpec, ...] = (
    ActionSpec(
        "open", "file", N_("Open…"),
        N_("Open a stack: TIFF, .h5 or video"), "Ctrl+O", "open",
    ),
    ActionSpec(
        "open_folder", "file", N_("Open Folder…"),
        N_("Open a folder of images as a stack"), "Ctrl+Shift+O", "folder",
    ),
    ActionSpec(
        "export", "file", N_("Export Height Map…"),
        N_("Write the height map to a file, by its suffix"), "Ctrl+E", "export",
    ),
    ActionSpec(
        "close", "file", N_("Close Stack"),
        N_("Close what is open"), "Ctrl+W", "close",
    ),
    ActionSpec(
        "captures_folder", "file", N_("Captures Folder…"),
        N_("Choose where new captures are kept"), "Ctrl+Shift+C", "folder",
    ),
    ActionSpec(
        "quit", "file", N_("Quit"),
        N_("Leave Reliefscope"), "Ctrl+Q", "quit",
    ),
    ActionSpec(
        "capture", "view", N_("Capture"),
        N_("Live view, stage, camera and stack"), "Ctrl+1", "capture", True, "workspace",
    ),
    ActionSpec(
        "surface", "view", N_("Surface"),
        N_("The height map in 3D and 2D, with profiles"), "Ctrl+2", "surface", True, "workspace",
    ),
    ActionSpec(
        "label", "view", N_("Label"),
        N_("Align, fuse and correct reference heights"), "Ctrl+3", "label", True, "workspace",
    ),
    ActionSpec(
        "inspect", "view", N_("Inspect"),
        N_("Measure roll cells and roughness"), "Ctrl+4", "inspect", True, "workspace",
    ),
    ActionSpec(
        "light_theme", "view", N_("Light Theme"),
        N_("Bright surroundings: dark text on a light window"), "Ctrl+Shift+T", "theme", True,
    ),
    ActionSpec(
        "full_screen", "view", N_("Full Screen"),
        N_("Use the whole screen"), "F11", "fullscreen", True,
    ),
    ActionSpec(
        "reset_layout", "view", N_("Reset Layout"),
        N_("Put every panel back to its place"), "Ctrl+Shift+R", "layout",
    ),
    ActionSpec(
        "stop", "stage", N_("Stop"),
        N_("Halt the stage at once and keep it still until it is released"), "Esc", "stop",
    ),
    ActionSpec(
        "release", "stage", N_("Release"),
        N_("Let the stage move again after a stop"), "Shift+Esc", "release",
    ),
    ActionSpec(
        "stage_up", "stage", N_("Up One Step"),
        N_("Move the plane in focus up by the chosen step"), "PgUp", "up",
    ),
    ActionSpec(
        "stage_down", "stage", N_("Down One Step"),
        N_("Move the plane in focus down by the chosen step"), "PgDown", "down",
    ),
    ActionSpec(
        "step_fine", "stage", N_("Fine Step"),
        N_("Jog in fine steps"), "Alt+1", "step", True, "step",
    ),
    ActionSpec(
        "step_medium", "stage", N_("Medium Step"),
        N_("Jog in medium steps"), "Alt+2", "step", True, "step",
    ),
    ActionSpec(
        "step_coarse", "stage", N_("Coarse Step"),
        N_("Jog in coarse steps"), "Alt+3", "step", True, "step",
    ),
    ActionSpec(
        "go_to", "stage", N_("Go to Height"),
        N_("Type the height to move to"), "Ctrl+G", "goto",
    ),
    ActionSpec(
        "autofocus", "stage", N_("Autofocus"),
        N_("Search the sharpest plane between top and bottom of the stack"), "F8", "focus",
    ),
    ActionSpec(
        "home", "stage", N_("Home…"),
        N_("Drive the stage to its reference; asks first, for it may go through its whole travel"), "Ctrl+Home", "goto",
    ),
    ActionSpec(
        "confirm_position", "stage", N_("This Position Is Right…"),
        N_("Vouch for the position that the stage tells; nothing moves"), "Ctrl+Shift+P", "step",
    ),
    ActionSpec(
        "gamepad", "stage", N_("Gamepad…"),
        N_("See what a gamepad does, and let it move the stage"), "Ctrl+J", "gamepad",
    ),
    ActionSpec(
        "devices", "camera", N_("Devices…"),
        N_("Find stage and camera, and describe your microscope"), "Ctrl+M", "connect",
    ),
    ActionSpec(
        "connect", "camera", N_("Connect Microscope"),
        N_("Open the chosen stage and camera; nothing moves"), "Ctrl+D", "connect",
    ),
    ActionSpec(
        "disconnect", "camera", N_("Disconnect"),
        N_("Release stage and camera"), "Ctrl+Shift+D", "disconnect",
    ),
    ActionSpec(
        "live", "camera", N_("Live View"),
        N_("Show what the camera sees"), "Ctrl+L", "live", True,
    ),
    ActionSpec(
        "auto_contrast", "camera", N_("Auto Contrast"),
        N_("Stretch the display to the picture; the data stay as they are"), "Ctrl+Shift+A", "contrast", True,
    ),
    ActionSpec(
        "auto_exposure", "camera", N_("Auto Exposure"),
        N_("Find the exposure that fills the range without clipping"), "Ctrl+Shift+E", "exposure",
    ),
    ActionSpec(
        "snapshot", "camera", N_("Save Picture…"),
        N_("Save the live picture, unchanged, as a file"), "Ctrl+Shift+S", "snapshot",
    ),
    ActionSpec(
        "set_top", "stack", N_("Set Top Here"),
        N_("The top of the stack is the present height"), "Ctrl+T", "top",
    ),
    ActionSpec(
        "set_bottom", "stack", N_("Set Bottom Here"),
        N_("The bottom of the stack is the present height"), "Ctrl+B", "bottom",
    ),
    ActionSpec(
        "use_depth_of_field", "stack", N_("Step from Depth of Field"),
        N_("Half of the depth of field of the objective as step"), "Ctrl+Shift+F", "depth",
    ),
    ActionSpec(
        "start", "stack", N_("Start Capture"),
        N_("Capture the stack and reconstruct it on the way"), "F9", "start",
    ),
    ActionSpec(
        "surface_after_capture", "stack", N_("Show Surface after Capture"),
        N_("Go to the Surface workspace when a capture has ended"), "Ctrl+Shift+V", "surface", True,
    ),
    ActionSpec(
        "cancel", "stack", N_("Cancel"),
        N_("End the running task; frames already captured are kept"), "Ctrl+.", "cancel",
    ),
    ActionSpec(
        "reconstruct", "reconstruct", N_("Reconstruct Again"),
        N_("Compute the height map of the open stack anew"), "F5", "reconstruct",
    ),
    ActionSpec(
        "set_scale", "reconstruct", N_("Step and Pixel Size…"),
        N_("Give or correct the scale of the open stack"), "Ctrl+Shift+Z", "scale",
    ),
    ActionSpec(
        "align", "reconstruct", N_("Align Frames"),
        N_("Remove sideways drift between the frames"), "Ctrl+Shift+L", "align", True,
    ),
    ActionSpec(
        "smooth", "reconstruct", N_("Regularise"),
        N_("Let confident neighbours decide where focus is weak"), "Ctrl+Shift+M", "smooth", True,
    ),
    ActionSpec(
        "palette", "help", N_("Find Action…"),
        N_("Type what you want to do"), "Ctrl+K", "palette",
    ),
    ActionSpec(
        "shortcuts", "help", N_("Keyboard Shortcuts"),
        N_("All shortcuts on one page"), "F1", "keyboard",
    ),
    ActionSpec(
        "log", "help", N_("Open Log Folder"),
        N_("What the program wrote down, for questions to support"), "Ctrl+Shift+G", "log",
    ),
    ActionSpec(
        "about", "help", N_("About Reliefscope"),
        N_("Version and licence"), "Shift+F1", "about",
    ),
)  # fmt: skip

AFTER_LINE = frozenset(
    {"close", "quit", "light_theme", "stage_up", "step_fine", "go_to", "home", "gamepad", "connect", "live"}
    | {"auto_contrast", "snapshot", "use_depth_of_field", "start", "surface_after_capture", "align", "shortcuts"}
)
"""A menu draws a line above these."""


def without_mnemonic(text: str) -> str:
    """A menu title as a heading: "&File" becomes "File", and "文件(&F)" becomes "文件"."""
    return re.sub(r"\s*\(&.\)|&", "", text)


class Actions(QObject):
    """The actions of one window, by name."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._actions: dict[str, QAction] = {}
        groups: dict[str, QActionGroup] = {}
        for spec in ACTIONS:
            action = QAction(self)
            action.setObjectName(spec.name)
            action.setShortcut(QKeySequence(spec.shortcut))
            action.setCheckable(spec.checkable)
            action.setMenuRole(_MENU_ROLES.get(spec.name, QAction.MenuRole.NoRole))
            if spec.group:
                group = groups.setdefault(spec.group, QActionGroup(self))
                group.addAction(action)
            self._actions[spec.name] = action
        self.refresh()

    def __getitem__(self, name: str) -> QAction:
        return self._actions[name]

    def __iter__(self) -> Iterator[QAction]:
        return iter(self._actions.values())

    def refresh(self) -> None:
        """Texts in the present language, icons in the colours of the present theme."""
        for spec in ACTIONS:
            action = self._actions[spec.name]
            action.setText(_(spec.text))
            shortcut = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
            action.setToolTip(f"{_(spec.tip)} ({shortcut})")
            action.setStatusTip(_(spec.tip))
            action.setIcon(icon(spec.icon))

    def connect_to(self, **callbacks: Callable[..., object]) -> None:
        """``connect_to(open=self.open)``: call back when the action is triggered; checkable ones pass their state."""
        for name, callback in callbacks.items():
            self._actions[name].triggered.connect(callback)

    def enable(self, enabled: bool, *names: str) -> None:
        for name in names:
            self._actions[name].setEnabled(enabled)

    def of_menu(self, menu: str) -> list[QAction]:
        return [self._actions[spec.name] for spec in ACTIONS if spec.menu == menu]


_MENU_ROLES = {
    "quit": QAction.MenuRole.QuitRole,
    "about": QAction.MenuRole.AboutRole,
}
