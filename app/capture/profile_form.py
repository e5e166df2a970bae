"""The description of a microscope as a page of fields."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from app.capture.objective_table import ObjectiveTable
from app.capture.section_form import SectionForm, label
from app.fields import Form, Section
from hardware.camera import CameraIdentity
from hardware.cameras import DRIVERS as CAMERAS
from hardware.cameras.settings import SECTIONS
from hardware.profile import (
    AxisProfile,
    Profile,
    ProfileFieldError,
    SimulatedCameraProfile,
    SimulatedStageProfile,
    checked_profile,
    load_profile,
)
from hardware.search import FoundStage, camera_section
from hardware.stages.micromanager import MicroManagerStageProfile
from hardware.stages.registry import DRIVERS as STAGES
from models.language import _

SIMULATED, MICROMANAGER = "simulated", "micromanager"
REGION = ("left", "top", "width", "height")


class ProfileForm(QWidget):
    """``profile()`` checks what was filled in."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self._base = profile
        self.title = QLineEdit()
        self.title.setPlaceholderText(_("What you call this microscope"))
        self.stage_driver, self.camera_driver = QComboBox(), QComboBox()
        for name, title in (
            (SIMULATED, _("Simulated")),
            *((name, _(driver.title)) for name, driver in STAGES.items()),
            (MICROMANAGER, _("Micro-Manager")),
        ):
            self.stage_driver.addItem(title, name)
        for name, title in ((SIMULATED, _("Simulated")), *((name, _(kind.title)) for name, kind in CAMERAS.items())):
            self.camera_driver.addItem(title, name)
        self.region = QLineEdit()
        self.region.setPlaceholderText(_("whole sensor"))
        self.region.setToolTip(_("Part of the sensor that is read out: left, top, width, height in pixels"))
        self._stage_place, self._axis_place, self._camera_place, self._objectives_place = (
            QVBoxLayout() for _i in "1234"
        )
        self._arrange()
        self.show_profile(profile)
        self.stage_driver.activated.connect(lambda _index: self._choose_stage(self.stage_driver.currentData()))
        self.camera_driver.activated.connect(lambda _index: self._choose_camera(self.camera_driver.currentData()))

    def _arrange(self) -> None:
        left, right = QVBoxLayout(), QVBoxLayout()
        for column in (left, right):
            column.setSpacing(14)
        name = Form()
        name.row(_("Name"), self.title)
        left.addWidget(name)
        for place, title, driver, column in (
            (self._stage_place, _("Stage"), self.stage_driver, left),
            (self._axis_place, _("Motion"), None, right),
            (self._camera_place, _("Camera"), self.camera_driver, left),
            (self._objectives_place, _("Objectives"), None, right),
        ):
            content = QWidget()
            inside = QVBoxLayout(content)
            inside.setContentsMargins(0, 0, 0, 0)
            if driver is not None:
                kind = Form()
                kind.row(_("Kind"), driver)
                inside.addWidget(kind)
            inside.addLayout(place)
            if place is self._camera_place:
                region = Form()
                region.row(_("Region (left, top, width, height)"), self.region)
                inside.addWidget(region)
            column.addWidget(Section(title, content))
        for column in (left, right):
            column.addStretch(1)
        sides = QHBoxLayout(self)
        sides.setContentsMargins(0, 0, 8, 0)
        sides.setSpacing(24)
        sides.addLayout(left, 1)
        sides.addLayout(right, 1)

    # --- filling in

    def show_profile(self, profile: Profile) -> None:
        """Show all of a profile."""
        self._base = profile
        self.title.setText(_(profile.title))
        data = profile.model_dump(exclude_unset=True)
        self._show_stage(data["stage"])
        self._show_axis(data.get("axis", {}))
        self._show_camera(data["camera"])
        self.objectives = ObjectiveTable(profile.objectives, profile.objective)
        _put(self._objectives_place, self.objectives)

    def use_stage(self, found: FoundStage) -> None:
        """This controller, with the values of the profile that ships for its protocol, unless it is here already."""
        if self.stage_driver.currentData() != found.driver.name:
            self._choose_stage(found.driver.name)
        self.stage.set_text("port", found.port)
        self.stage.set_text("baud", str(found.baud))

    def use_camera(self, camera: CameraIdentity) -> None:
        """This camera; what is known of another one of its kind is kept."""
        if self.camera_driver.currentData() != camera.driver:
            self._choose_camera(camera.driver)
        for name, value in camera_section(camera).items():
            self.camera.set_text(name, str(value))

    def _choose_stage(self, driver: str) -> None:
        data = load_profile(driver).model_dump(exclude_unset=True)
        self._show_stage(data["stage"])
        self._show_axis(data.get("axis", {}))

    def _choose_camera(self, driver: str) -> None:
        self._show_camera(load_profile(driver).model_dump(exclude_unset=True)["camera"])

    def _show_stage(self, values: Mapping[str, Any]) -> None:
        driver = values["driver"]
        kinds: dict[str, type[BaseModel]] = {SIMULATED: SimulatedStageProfile, MICROMANAGER: MicroManagerStageProfile}
        model = kinds.get(driver) or STAGES[driver].settings
        self.stage_driver.setCurrentIndex(self.stage_driver.findData(driver))
        self.stage = SectionForm(model, values)
        _put(self._stage_place, self.stage)

    def _show_axis(self, values: Mapping[str, Any]) -> None:
        self.axis = SectionForm(AxisProfile, values, hidden=("speed_um_s",))
        _put(self._axis_place, self.axis)

    def _show_camera(self, values: Mapping[str, Any]) -> None:
        driver = values["driver"]
        self.camera_driver.setCurrentIndex(self.camera_driver.findData(driver))
        model: type[BaseModel] = SimulatedCameraProfile if driver == SIMULATED else SECTIONS[driver]
        self.camera = SectionForm(model, values)
        _put(self._camera_place, self.camera)
        roi = (values.get("settings") or {}).get("roi") or {}
        self.region.setText(", ".join(str(roi.get(name, 0)) for name in REGION) if roi else "")
        self.region.setEnabled(driver not in (SIMULATED, "uvc", "replay"))

    # --- reading

    def profile(self, name: str) -> Profile:
        """What was filled in, called ``name`` in messages. Raises ProfileFieldError."""
        stage, axis, camera = self.stage.value(), self.axis.value(), self.camera.value()
        axis.pop("speed_um_s", None)  # one speed for the page: the stage's
        roi = self._roi()
        settings = {**(camera.get("settings") or {}), "roi": roi}
        if roi is None:
            del settings["roi"]
        data = {
            **self._base.model_dump(exclude_unset=True, exclude={"name", "title"}),
            "name": name,
            "title": self.title.text().strip(),
            "stage": {"driver": self.stage_driver.currentData(), **stage},
            "axis": axis,
            "camera": {
                "driver": self.camera_driver.currentData(),
                **camera,
                **({"settings": settings} if settings else {}),
            },
            "objectives": self.objectives.value(),
            "objective": self.objectives.in_use.currentText(),
        }
        if data["camera"]["driver"] == SIMULATED and not data.get("sample"):
            data["sample"] = load_profile(SIMULATED).model_dump(exclude_unset=True)["sample"]
        return checked_profile(data, name)

    def _roi(self) -> dict[str, str] | None:
        numbers = [word.strip() for word in self.region.text().split(",")]
        if not any(numbers):
            return None
        return dict(zip(REGION, (*numbers, "", "", ""), strict=False))

    def show_problem(self, error: ProfileFieldError) -> str:
        """Lead the eye to the field; the sentence that names it as the page does."""
        section, _dot, rest = error.field.partition(".")
        form = {"stage": self.stage, "axis": self.axis, "camera": self.camera}.get(section)
        title = {"stage": _("Stage"), "axis": _("Motion"), "camera": _("Camera")}.get(section, _("Objectives"))
        if form is not None and form.show_field(rest.partition(".")[0]):
            return f"{title}, {label(rest.partition('.')[0])}: {error.problem}"
        if section == "camera" and "roi" in rest:
            self.region.setFocus()
            return f"{title}, {_('Region (left, top, width, height)')}: {error.problem}"
        if section == "objectives":
            row, _dot, name = rest.partition(".")
            self.objectives.show_field(int(row) if row.isdigit() else 0, name)
            return f"{title}, {label(name)}: {error.problem}"
        return f"{title if form is not None else error.field}: {error.problem}"


def _put(place: QVBoxLayout, widget: QWidget) -> None:
    """In the place of what was there."""
    while (item := place.takeAt(0)) is not None:
        if (old := item.widget()) is not None:
            old.hide()
            old.deleteLater()
    place.addWidget(widget, 0, Qt.AlignmentFlag.AlignTop)
