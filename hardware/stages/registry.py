"""The protocols that the program speaks, and which of them answers on a port."""

from collections.abc import Iterable
from dataclasses import dataclass

from hardware.line import SerialLine
from hardware.stage import StageError, StageNoReply
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
"""In the order in which a port of unknown use is asked: a question must be harmless to all that come after it."""


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


def identify_port(port: str, drivers: Iterable[StageDriver] = tuple(DRIVERS.values())) -> FoundStage | None:
    """Ask on a port who is there, one protocol and baud rate after the other. Queries only; nothing moves.

    None where nobody answers. Raises StagePortBusy, StageDisconnected and StageError where the port cannot be had.
    """
    for driver in drivers:
        for baud in driver.bauds:
            line = SerialLine(port, baud, driver.line_format, name=driver.title)
            try:
                identity = driver.identify(line)
            except StageNoReply:
                identity = None
            finally:
                line.close()
            if identity is not None:
                return FoundStage(driver, port, baud, identity)
    return None
