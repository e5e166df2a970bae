"""What a gamepad may ask of the stage, look by look."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.capture.gamepad import FROZEN_S, STEP_S, PadJog, PadState, Wish, deflection
from app.settings import GamepadSettings

SETTINGS = GamepadSettings(axis=1, hold_button=5, stop_button=1, dead_zone=0.2)
TOP_UM_S = 100.0


def pad(stick: float = 0.0, *pressed: int) -> PadState:
    return PadState("Pad", (0.0, stick), tuple(button in pressed for button in range(8)))


class Looks:
    """A pad looked at every 20 ms; the stage is at rest unless told otherwise."""

    def __init__(self) -> None:
        self.jog, self.now_s = PadJog(), 100.0

    def look(self, state: PadState | None, *, at_rest: bool = True, after_s: float = 0.02) -> Wish:
        self.now_s += after_s
        return self.jog.look(state, SETTINGS, self.now_s, at_rest=at_rest, top_um_s=TOP_UM_S)

    def armed(self) -> "Looks":
        self.look(pad())
        self.look(pad(0.0, 5))
        return self


def test_the_speed_follows_the_stick_beyond_its_dead_zone():
    assert deflection(pad(0.2), SETTINGS) == 0.0
    assert deflection(pad(-0.6), SETTINGS) == pytest.approx(0.5)
    assert deflection(pad(1.0), SETTINGS) == -1.0
    assert deflection(pad(-1.0), SETTINGS.model_copy(update={"up_is_negative": False})) == -1.0
    assert deflection(pad(-1.0), SETTINGS.model_copy(update={"axis": 40})) == 0.0
    assert Looks().armed().look(pad(-0.6, 5)).step_um == pytest.approx(0.5 * TOP_UM_S * STEP_S)


def test_nothing_moves_without_the_button():
    looks = Looks()
    assert [looks.look(pad(stick)) for stick in (0.0, -1.0, 1.0, -0.5)] == [Wish()] * 4


def test_a_stick_that_is_off_centre_when_the_button_is_pressed_must_be_let_go_first():
    looks = Looks()
    looks.look(pad(-1.0))
    assert looks.look(pad(-1.0, 5)) == Wish()
    assert looks.look(pad(-0.5, 5)) == Wish()
    assert looks.look(pad(0.0, 5)) == Wish()
    assert looks.look(pad(-1.0, 5)).step_um > 0


def test_the_next_step_begins_after_the_last_has_ended_and_no_sooner_than_the_speed_says():
    looks = Looks().armed()
    assert looks.look(pad(-1.0, 5)).step_um > 0
    assert looks.look(pad(-1.0, 5)) == Wish()
    assert looks.look(pad(-1.0, 5), after_s=STEP_S, at_rest=False) == Wish()
    assert looks.look(pad(-1.0, 5)).step_um > 0


@pytest.mark.parametrize("ending", [pad(-1.0), pad(0.0, 5), pad(0.0), None])
def test_letting_go_or_unplugging_halts_at_once_and_once(ending):
    looks = Looks().armed()
    looks.look(pad(-1.0, 5))
    assert looks.look(ending, at_rest=False) == Wish(halt=True)
    assert looks.look(ending) == Wish()


def test_turning_round_halts_first():
    looks = Looks().armed()
    looks.look(pad(-1.0, 5))
    assert looks.look(pad(1.0, 5), at_rest=False) == Wish(halt=True)
    assert looks.look(pad(1.0, 5), after_s=STEP_S).step_um < 0


def test_stop_is_told_once_per_press_and_needs_the_button_anew():
    looks = Looks().armed()
    looks.look(pad(-1.0, 5))
    assert looks.look(pad(-1.0, 5, 1), at_rest=False).stop
    assert not looks.look(pad(-1.0, 5, 1)).stop
    assert looks.look(pad(-1.0, 5), after_s=1.0) == Wish()
    assert looks.look(pad(0.0, 5)) == Wish()
    assert looks.look(pad(-1.0, 5)) == Wish(), "the button is still the one that was held before STOP"
    looks.look(pad())
    looks.look(pad(0.0, 5))
    assert looks.look(pad(-1.0, 5), after_s=1.0).step_um > 0
    assert Looks().look(pad(0.0, 1)).stop, "also where nothing is held"


def test_after_a_fault_the_button_must_be_let_go():
    looks = Looks().armed()
    looks.look(pad(-1.0, 5))
    looks.jog.disarm()
    assert looks.look(pad(-0.9, 5), after_s=1.0) == Wish(halt=True)
    assert looks.look(pad(0.0, 5)) == Wish()
    assert looks.look(pad(-1.0, 5)) == Wish()


def test_a_pad_of_which_nothing_changes_any_more_is_not_believed():
    looks = Looks().armed()
    assert looks.look(pad(-1.0, 5)).step_um > 0
    assert looks.look(pad(-1.0, 5), after_s=FROZEN_S - 0.1).step_um > 0
    assert looks.look(pad(-1.0, 5), after_s=0.2) == Wish(halt=True)
    assert looks.look(pad(-0.9, 5), after_s=1.0) == Wish(), "a new press is needed"


@given(
    st.lists(
        st.tuples(st.none() | st.floats(-1, 1), st.sets(st.sampled_from([1, 5])), st.booleans(), st.floats(0.001, 0.3)),
        max_size=60,
    )
)
def test_whatever_is_done_no_step_begins_unheld_and_none_waits(looks_at):
    looks, latest_s = Looks(), -1.0
    for stick, pressed, at_rest, after_s in looks_at:
        wish = looks.look(None if stick is None else pad(stick, *pressed), at_rest=at_rest, after_s=after_s)
        if wish.step_um:
            assert 5 in pressed
            assert at_rest
            assert abs(wish.step_um) <= TOP_UM_S * STEP_S
            assert (wish.step_um > 0) == (stick < 0)
            assert looks.now_s - latest_s >= STEP_S - 1e-9
            latest_s = looks.now_s
