"""The height map beside the capture: in 3D and 2D, with the method that makes it."""

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QHBoxLayout, QLabel, QStackedWidget, QTabBar, QVBoxLayout, QWidget

from app.capture.growing_map import MapState
from app.capture.run import CaptureRun
from app.surface.image_view import ImageView
from app.surface.ticks import number
from app.surface.view3d import SurfaceView
from app.theme import set_role
from models.height_map import HeightMap
from models.language import _
from models.methods import find_method

DETAIL_MS = 150
"""So long after the final map has come it is drawn with all its detail."""


class MapPanel(QWidget):
    """Shows the map of a :class:`CaptureRun` while it grows, then the final one, and says who made it."""

    def __init__(self, run: CaptureRun) -> None:
        super().__init__()
        self._run = run
        self._detail = QTimer(self, singleShot=True, interval=DETAIL_MS)
        self._detail.timeout.connect(self._show_in_detail)
        self.surface = SurfaceView()
        self.height_image = ImageView()
        for view in (self.surface, self.height_image):
            view.set_empty_text(_("The height map grows here during a capture."))
        self.tabs = QTabBar()
        self.tabs.addTab(_("Height map in 3D"))
        self.tabs.addTab(_("2D"))
        self.tabs.setExpanding(False)
        self.tabs.setDrawBase(False)
        self.maps = QStackedWidget()
        self.maps.addWidget(self.surface)
        self.maps.addWidget(self.height_image)
        self.state = QLabel()
        self.state.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.state.setWordWrap(True)  # names of methods are long, and the panel may be narrow: whole in the tip, too
        self.state.setMinimumWidth(40)
        set_role(self, "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        set_role(self.state, "hint")
        head = QHBoxLayout()
        head.setContentsMargins(0, 0, 12, 0)
        head.addWidget(self.tabs)
        head.addWidget(self.state, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(head)
        column.addWidget(self.maps, 1)
        self.tabs.currentChanged.connect(self._show_tab)
        run.started.connect(self._on_started)
        run.stateChanged.connect(self._show_state)
        run.grown.connect(self._show_growing)
        run.finished.connect(self._on_finished)
        self._on_finished(run.final)
        self._show_state()

    def _on_started(self) -> None:
        self._detail.stop()
        self.surface.set_height_map(None)
        self.height_image.set_height_map(None)
        self._say("")

    def _show_growing(self) -> None:
        height_map = self._run.take()
        if height_map is not None and self._run.final is None:
            self._show_map(height_map, moving=True)

    def _on_finished(self, height_map: HeightMap | None) -> None:
        if height_map is None:
            self._say("")
            return
        # At once as coarse as the growing ones, which is three times as fast where there is no graphics card.
        self._show_map(height_map, moving=True)
        self._detail.start()

    def _show_in_detail(self) -> None:
        if self._run.final is not None:
            self._show_map(self._run.final, moving=False)

    def _show_state(self) -> None:
        state = self._run.state
        if state is not None:
            final = self._run.final is not None
            self._say(final_text(state, self._run.seconds_to_final) if final else growing_text(state), state)

    def _say(self, text: str, state: MapState | None = None) -> None:
        """Amber where another method than the chosen one makes the map."""
        self.state.setText(text)
        self.state.setToolTip(text)
        set_role(self.state, "amber" if state is not None and state.method != state.wanted else "hint")

    def _show_tab(self, index: int) -> None:
        self.maps.setCurrentIndex(index)
        self._show_in_detail()

    def _show_map(self, height_map: HeightMap, *, moving: bool) -> None:
        """In the view that is seen; the other one follows when it is turned to."""
        if self.maps.currentWidget() is self.surface:
            self.surface.set_height_map(height_map, moving=moving)
        else:
            self.height_image.set_height_map(height_map)


def growing_text(state: MapState) -> str:
    """Who makes the map that grows."""
    if state.is_loading:
        return _("Loading the network …")
    if state.method == state.wanted:
        return _("growing: {method}").format(method=_title(state.method))
    return _("growing: {method}, for {wanted}").format(method=_title(state.method), wanted=_title(state.wanted))


def final_text(state: MapState, seconds: float) -> str:
    """Who made the map, and how long after the last frame it was there."""
    if find_method(state.wanted).whole_stack:
        return _("{method}; {wanted} follows in Surface").format(
            method=_title(state.method), wanted=_title(state.wanted)
        )
    after = (
        _("{ms} ms").format(ms=number(1000 * seconds, 0)) if seconds < 1 else _("{s} s").format(s=number(seconds, 1))
    )
    return _("final: {method} · {time} after the last frame").format(method=_title(state.method), time=after)


def _title(method: str) -> str:
    return _(find_method(method).title)
