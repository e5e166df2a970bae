"""The Surface workspace: everything about one height map on one page."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QByteArray, Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QScrollArea,
    QSlider,
    QSplitter,
    QStackedWidget,
    QTabBar,
    QVBoxLayout,
    QWidget,
)

from app.docks import add_dock, dock_actions
from app.document import Document
from app.empty_state import EmptyState
from app.fields import Section
from app.surface.display_panel import Display, DisplayPanel
from app.surface.focus_curve_plot import FocusCurvePlot
from app.surface.image_view import ImageView
from app.surface.layers import height_unit, hide_weak
from app.surface.profile import height_profile
from app.surface.profile_plot import ProfilePlot
from app.surface.readout import Readout
from app.surface.reconstruction_panel import ReconstructionPanel, options_of
from app.surface.ticks import number
from app.surface.view3d import SurfaceView
from app.theme import set_role, tabular
from models.height_map import HeightMap
from models.language import N_, _
from models.methods import METHODS, ReconstructionOptions

TABS = (
    ("height", N_("Height"), N_("Heights in colours")),
    ("confidence", N_("Confidence"), N_("How clearly each pixel came into focus: black is a guess, white is sure")),
    (
        "uncertainty",
        N_("Uncertainty (95 %)"),
        N_("Half the width of the interval that holds the height with 95 % probability"),
    ),
    ("all_in_focus", N_("All in focus"), N_("Every pixel from the frame in which it was sharpest")),
    ("frames", N_("Frames"), N_("The images of the stack one by one")),
)
HEIGHT_TAB, FRAMES_TAB = 0, 4
COLUMN_WIDTH = 268


class SurfaceWorkspace(QStackedWidget):
    """Height map in 2D and 3D with cursor, profile and focus curve; how it is shown and how it is made.

    ``reconstructRequested`` carries the :class:`ReconstructionOptions` to compute the open stack with;
    ``failed`` an error for the user.
    """

    reconstructRequested = Signal(object)
    optionsChanged = Signal(object)
    failed = Signal(object)

    def __init__(self, document: Document, parent: QWidget | None = None, *, actions: Sequence[QAction] = ()) -> None:
        super().__init__(parent)
        self._document = document
        self._line_shape: tuple[int, int] | None = None
        self.image = ImageView()
        self.view = SurfaceView()
        self.display = DisplayPanel()
        self.reconstruction = ReconstructionPanel()
        self.profile = ProfilePlot()
        self.readout = Readout()
        self.focus_curve = FocusCurvePlot()
        self.tabs = QTabBar()
        self.frame_slider = QSlider(Qt.Orientation.Horizontal)
        self._frame_text = QLabel()
        self._summary = QLabel()
        self._desk = QMainWindow()
        self.addWidget(
            EmptyState(
                "surface",
                _("No surface yet"),
                _("Open a stack, drop a folder here, or start the simulated microscope."),
                actions=actions,
            )
        )
        self.addWidget(self._desk)
        self._arrange()
        self._connect()
        self._on_stack_changed()
        self._on_height_map_changed()

    # Layout

    def _arrange(self) -> None:
        for name, title, tip in TABS:
            index = self.tabs.addTab(_(title))
            self.tabs.setTabData(index, name)
            self.tabs.setTabToolTip(index, _(tip))
        self.tabs.setExpanding(False)
        self.tabs.setDrawBase(False)
        self.view.set_empty_text(_("The surface appears here as soon as the stack is reconstructed."))

        self._frame_row = QWidget()
        self.frame_slider.setToolTip(_("Step through the stack"))
        self._frame_text.setFont(tabular(self._frame_text.font()))
        row = QHBoxLayout(self._frame_row)
        row.setContentsMargins(12, 6, 12, 6)
        row.addWidget(self.frame_slider, 1)
        row.addWidget(self._frame_text)
        images = _column(self.tabs, self.image, self._frame_row, stretch=1)

        set_role(self._summary, "hint")
        self._summary.setContentsMargins(12, 0, 12, 0)
        self._summary.setFixedHeight(self.tabs.sizeHint().height())
        surface = _column(self._summary, self.view, stretch=1)
        center = QSplitter(Qt.Orientation.Horizontal)
        center.setChildrenCollapsible(False)
        center.addWidget(images)
        center.addWidget(surface)
        center.setStretchFactor(0, 6)
        center.setStretchFactor(1, 7)
        center.setSizes([600, 700])
        self._desk.setCentralWidget(center)

        column = QWidget()
        inside = QVBoxLayout(column)
        inside.setContentsMargins(12, 8, 12, 12)
        inside.setSpacing(14)
        inside.addWidget(Section(_("Display"), self.display))
        inside.addWidget(Section(_("Reconstruction"), self.reconstruction))
        inside.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(column)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setMinimumWidth(COLUMN_WIDTH)
        foot = QWidget()
        standing = QVBoxLayout(foot)
        standing.setContentsMargins(12, 8, 12, 12)
        standing.addWidget(self.reconstruction.start)

        left, below = Qt.DockWidgetArea.LeftDockWidgetArea, Qt.DockWidgetArea.BottomDockWidgetArea
        add_dock(self._desk, "surface-controls", _("Controls"), _column(scroll, foot, stretch=0), left)
        docks = [
            add_dock(self._desk, "surface-profile", _("Profile"), self.profile, below),
            add_dock(self._desk, "surface-focus-curve", _("Focus curve"), self.focus_curve, below),
            add_dock(self._desk, "surface-readout", _("Cursor"), self.readout, below),
        ]
        self._desk.setCorner(Qt.Corner.BottomLeftCorner, left)
        self._desk.resizeDocks(docks, [560, 320, 190], Qt.Orientation.Horizontal)
        self._desk.resizeDocks(docks[:1], [190], Qt.Orientation.Vertical)
        QWidget.setTabOrder(self.tabs, self.image)
        QWidget.setTabOrder(self.image, self.view)

    def save_layout(self) -> QByteArray:
        """Where the parts are, for :meth:`restore_layout`."""
        return self._desk.saveState()

    def restore_layout(self, layout: QByteArray) -> bool:
        """Put the parts back; False where ``layout`` is not one of ours."""
        return self._desk.restoreState(layout)

    def dock_actions(self) -> list[QAction]:
        """Actions that show and hide the parts, for a menu."""
        return dock_actions(self._desk)

    # Wiring

    def _connect(self) -> None:
        self._document.stackChanged.connect(self._on_stack_changed)
        self._document.heightMapChanged.connect(self._on_height_map_changed)
        self.tabs.currentChanged.connect(self._show_image)
        self.frame_slider.valueChanged.connect(self._show_image)
        self.display.valueChanged.connect(self._apply_display)
        self.display.resetRequested.connect(self._reset_views)
        self.display.topRequested.connect(self.view.look_from_top)
        self.view.exaggerationChanged.connect(self.display.show_exaggeration)
        self.view.heightRangeChanged.connect(self._show_range)
        self.reconstruction.reconstructRequested.connect(self.reconstructRequested)
        self.reconstruction.valueChanged.connect(self.optionsChanged)
        self.image.cursorMoved.connect(self._on_image_cursor)
        self.view.cursorMoved.connect(self._on_surface_cursor)
        self.profile.cursorMoved.connect(self._on_profile_cursor)
        for source in (self.image, self.view, self.profile):
            source.cursorLeft.connect(self._on_cursor_left)
        self.image.profileLineChanged.connect(self._on_line_moved)
        self.profile.failed.connect(self.failed)

    # What the document holds

    def _on_stack_changed(self) -> None:
        stack = self._document.stack
        self.reconstruction.set_can_start(stack is not None)
        self.tabs.setTabVisible(FRAMES_TAB, stack is not None)
        self.frame_slider.blockSignals(True)
        self.frame_slider.setRange(0, 0 if stack is None else len(stack) - 1)
        self.frame_slider.setValue(0 if stack is None else len(stack) // 2)
        self.frame_slider.blockSignals(False)
        self._on_height_map_changed()

    def _on_height_map_changed(self) -> None:
        stack, height_map = self._document.stack, self._document.height_map
        self.setCurrentIndex(0 if stack is None and height_map is None else 1)
        for index in range(FRAMES_TAB):
            self.tabs.setTabEnabled(index, height_map is not None)
        if height_map is None and stack is not None:
            self.tabs.setCurrentIndex(FRAMES_TAB)
        elif height_map is not None and (self._line_shape is None or stack is None):
            self.tabs.setCurrentIndex(HEIGHT_TAB)
        options = options_of(height_map) if height_map is not None else None
        self.focus_curve.set_stack(stack, options or ReconstructionOptions())
        self.reconstruction.set_drift(*_measured_drift(height_map))
        self.readout.clear()
        self.view.set_height_map(height_map)
        self._summary.setText("" if height_map is None else _summary(height_map))
        self._place_line(height_map)
        self._show_image()
        if height_map is not None:
            self.display.set_is_scaled(height_map.pixel_um is not None and height_map.z_unit == "um")
            self.display.show_exaggeration(self.view.exaggeration)
            self._show_range(*self._shown_range())

    def _place_line(self, height_map: HeightMap | None) -> None:
        """A line across the middle for a map of a new size; the one before stays otherwise."""
        if height_map is None:
            self._line_shape = None
            self.image.set_profile_line(None)
            self.view.set_line(None)
            self.profile.set_profile(None)
            return
        if height_map.shape != self._line_shape:
            self._line_shape = height_map.shape
            rows, columns = height_map.shape
            row = (rows - 1) / 2
            self.image.set_profile_line(((row, 0.06 * (columns - 1)), (row, 0.94 * (columns - 1))))
        self._update_profile()

    # Images

    def _show_image(self) -> None:
        name = self.tabs.tabData(self.tabs.currentIndex())
        stack, height_map = self._document.stack, self._document.height_map
        self._frame_row.setVisible(name == "frames")
        if name == "frames" and stack is not None:
            index = self.frame_slider.value()
            self.image.set_image(stack.frames[index], pixel_um=stack.pixel_um)
            unit = "µm" if stack.z_unit == "um" else ""
            self._frame_text.setText(
                _("{n} of {count}   z {z}").format(
                    n=index + 1, count=len(stack), z=f"{number(float(stack.z_um[index]), 2)} {unit}".strip()
                )
            )
        elif name == "uncertainty" and height_map is not None and height_map.interval95_um is None:
            self.image.set_empty_text(_("The method of this height map states no uncertainty. GPLWS-Net does."))
            self.image.set_image(None)
        else:
            self.image.set_height_map(height_map, name if name != "frames" else "height")

    def _apply_display(self, display: Display) -> None:
        threshold_changed = display.threshold != self.view.threshold
        self.view.set_display(
            colour_map=display.colour_map,
            texture=display.texture,
            hill_shade=display.hill_shade,
            exaggeration=display.exaggeration,
            height_range=display.height_range,
            threshold=display.threshold,
            dim_untrusted=display.dim_untrusted,
        )
        self.image.set_display(
            colour_map=display.colour_map,
            height_range=display.height_range,
            threshold=display.threshold,
            flags_opacity=display.flags_opacity,
        )
        if threshold_changed:
            self._update_profile()
        if self._document.height_map is not None:
            self.display.show_exaggeration(self.view.exaggeration)
            self._show_range(*self._shown_range())

    def _shown_range(self) -> tuple[float, float]:
        return self.image.height_range if not self.view.is_available else self.view.height_range

    def _show_range(self, low: float, high: float) -> None:
        height_map = self._document.height_map
        if height_map is not None:
            self.display.show_range(low, high, height_unit(height_map))

    def _reset_views(self) -> None:
        self.view.reset_camera()
        self.image.show_all()

    # Cursor

    def _on_image_cursor(self, row: int, column: int) -> None:
        self._show_cursor(row, column)
        self.view.set_marker((row, column))
        self.image.set_marker(None)

    def _on_surface_cursor(self, row: int, column: int) -> None:
        self._show_cursor(row, column)
        self.view.set_marker((row, column))
        self.image.set_marker((row, column))

    def _on_profile_cursor(self, row: float, column: float) -> None:
        self._show_cursor(round(row), round(column))
        self.view.set_marker((row, column))
        self.image.set_marker((row, column))

    def _show_cursor(self, row: int, column: int) -> None:
        height_map = self._document.height_map
        if height_map is None:
            return
        rows, columns = height_map.shape
        if 0 <= row < rows and 0 <= column < columns:
            self.readout.show_pixel(height_map, row, column)
            self.focus_curve.set_pixel(row, column, float(height_map.height_um[row, column]))

    def _on_cursor_left(self) -> None:
        # The last focus curve stays: one wants to look at it after the mouse has left the picture.
        self.readout.clear()
        self.view.set_marker(None)
        self.image.set_marker(None)

    # Profile

    def _on_line_moved(self, *_ends: float) -> None:
        self._update_profile()

    def _update_profile(self) -> None:
        height_map, line = self._document.height_map, self.image.profile_line()
        if height_map is None or line is None:
            return
        heights = hide_weak(height_map.height_um, height_map.confidence, self.display.value().threshold)
        self.profile.set_profile(height_profile(height_map, heights, *line))
        self.view.set_line(line)

    def close_threads(self) -> None:
        """End the thread of the focus curve; to be called before the program ends."""
        self.focus_curve.close_thread()


def _column(*widgets: QWidget, stretch: int) -> QWidget:
    """The widgets below each other; the one numbered ``stretch`` takes the room."""
    column = QWidget()
    set_role(column, "panel")
    column.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
    layout = QVBoxLayout(column)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(0)
    for index, widget in enumerate(widgets):
        layout.addWidget(widget, 1 if index == stretch else 0)
    return column


def _measured_drift(
    height_map: HeightMap | None,
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Drift (n, 2) in pixels and magnification (n,) of the frames, where the map remembers them."""
    if height_map is None or "drift_px" not in height_map.parameters:
        return None, None
    drift_px = np.asarray(height_map.parameters["drift_px"], np.float64)
    return drift_px, np.asarray(height_map.parameters.get("magnification", ()), np.float64)


def _summary(height_map: HeightMap) -> str:
    """One line about the whole map."""
    rows, columns = height_map.shape
    method = METHODS.get(height_map.method)
    trusted = float(np.mean(np.isfinite(height_map.height_um) & (height_map.flags == 0)))
    parts = [f"{columns} × {rows} px"]
    if height_map.pixel_um is not None:
        size = (number(side * height_map.pixel_um, 1) for side in (columns, rows))
        parts.append("{} × {} µm".format(*size))
    if method is not None:
        parts.append(_(method.title))
    parts.append(_("{percent} % without a flag").format(percent=number(100 * trusted, 0)))
    return "   ·   ".join(parts)
