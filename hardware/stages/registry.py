"""The protocols that the program speaks."""

from dataclasses import dataclass

from hardware.stage import StageError
from hardware.stages import asi, grbl, marlin, openuc2, pi_gcs2, prior, sangaboard, zaber
from hardware.stages.driver import SerialStage, SerialStageSettings, StageDriver
from models.language import _

DRIVERS: dict[str, StageDriver] = {
    driver.name: driver
    for driver in (
        grbl.DRIVER,
        zaber.DRIVER,
        pi_gcs2.DRIVER,
        prior.DRIVER,
        asi.DRIVER,
        marlin.DRIVER,
        sangaboard.DRIVER,
        openuc2.DRIVER,
    )
}
"""Who answers on a port, :mod:`hardware.recognition` finds out: each question is harmless to all the others."""


@dataclass(frozen=True)
class FoundStage:
    """A controller that has told who it is."""

    driver: StageDriver
    port: str
    baud: int
    identity: str


def open_stage(settings: SerialStageSettings) -> SerialStage:
    """Connect and identify; nothing moves. Raises StageError, also where there is no such driver."""
    driver = DRIVERS.get(settings.driver)
    if driver is None:
        raise StageError(
            _("There is no stage driver '{driver}'. Drivers: {names}.").format(
                driver=settings.driver, names=", ".join(DRIVERS)
            )
        )
    return driver.open(settings)
