"""What the words and flags of Zaber's replies mean.

Source: Zaber's ASCII Protocol Manual, rejection reasons and warning flags.
"""

from models.language import N_

REJECTIONS = {
    "BADAXIS": N_("it has no such axis"),
    "BADCOMMAND": N_("it does not know the command"),
    "BADDATA": N_("the value is out of its range"),
    "DEVICEBUSY": N_("it is busy"),
    "DRIVERDISABLED": N_("its motor driver is off"),
    "INACTIVE": N_("the stage at this axis is not activated"),
    "LOCKSTEP": N_("the axis is locked to another one"),
    "PARKED": N_("it is parked"),
    "STATUSBUSY": N_("it is moving"),
}

FAULTS = {
    "FB": N_("its path left the travel"),
    "FC": N_("the current was too high when the motor was switched on"),
    "FD": N_("its motor driver is off"),
    "FE": N_("a limit was passed"),
    "FF": N_("a part of it is broken"),
    "FH": N_("its emergency stop is pressed"),
    "FI": N_("its index position is wrong"),
    "FM": N_("its motor is too hot"),
    "FN": N_("it does not know the stage that is plugged in"),
    "FO": N_("its motor driver is off"),
    "FP": N_("it left its path"),
    "FQ": N_("its encoder gives no sensible position"),
    "FS": N_("it stalled and stopped"),
    "FT": N_("the axes of a gantry are twisted"),
    "FV": N_("its supply voltage is out of range"),
    "FZ": N_("the stage that is plugged in is not activated"),
}
"""Flags with which it does not move until the cause is gone."""

DOUBTS = {
    "FS": N_("it stalled"),
    "WL": N_("it met a limit switch where there should be none"),
    "WM": N_("it was pushed while it stood"),
    "WS": N_("it stalled"),
}
"""Flags after which the position may be wrong."""

UNREFERENCED = ("WR", "WH")
"""No reference position since it was switched on; not homed since."""

HINTS = {
    "WT": N_("{stage} is hot. Let it cool down."),
    "WV": N_("{stage}: its supply voltage is out of range. Check the power supply."),
}
