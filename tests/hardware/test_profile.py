import pytest

from hardware.cameras.settings import SECTIONS
from hardware.profile import ProfileFieldError, load_profile, open_microscope, profile_names, save_profile
from hardware.simulator.controllers.grbl import GrblEmulator
from hardware.stage import StageError
from hardware.stages.registry import DRIVERS
from models.errors import InputError
from models.surfaces import SURFACES

SIMULATED = [name for name in profile_names() if load_profile(name).is_simulated]


def test_every_simulated_profile_opens_on_its_surface():
    names = SIMULATED
    assert "simulated" in names
    surfaces = {load_profile(name).sample.surface for name in names}
    assert surfaces == set(SURFACES)
    for name in names:
        with open_microscope(load_profile(name).changed(camera={"image_shape": (64, 64)})) as microscope:
            assert microscope.pixel_um == pytest.approx(0.5)
            assert microscope.optics.na == 0.3
            assert microscope.camera.image_shape == (64, 64)
            assert microscope.known_surface.height_um.shape == (64, 64)


def test_another_objective_changes_pixel_and_aperture():
    profile = load_profile("simulated").changed(objective="20x / 0.45")
    assert profile.pixel_um == pytest.approx(0.25)
    assert profile.selected_objective.optics.na == 0.45


def test_a_file_names_only_what_differs(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('based_on = "simulated"\ntitle = "Mine"\n[axis]\nsettle_ms = 5\n')
    profile = load_profile(path)
    assert (profile.name, profile.title, profile.axis.settle_ms) == ("mine", "Mine", 5.0)
    assert profile.axis.backlash_um == load_profile("simulated").axis.backlash_um


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('based_on = "simulated"\n[axis]\nsettle_ms = "long"\n', r"axis\.settle_ms"),
        ('based_on = "simulated"\n[axis]\nbacklash = 5\n', r"axis\.backlash"),
        ('based_on = "simulated"\n[camera]\nimage_shape = [512]\n', r"camera\.image_shape"),
        ('based_on = "simulated"\n[camera]\ndriver = "basler"\n', r"camera\.sensor_pixel_um"),
        ('based_on = "simulated"\n[camera]\ndriver = "polaroid"\n', "driver must be one of: simulated, uvc, basler"),
        ('based_on = "simulated"\nobjective = "100x"\n', "100x"),
        ('based_on = "nowhere"\n', "nowhere"),
        ('title = "half a file"\n', "objectives"),
        ("= not toml", "not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        load_profile(path)


SERIAL = 'based_on = "simulated"\n[stage]\ndriver = "grbl"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"stage\.port: it is missing"),
        ('port = ""\nlow_um = 0\nhigh_um = 1\n', r"stage\.port"),
        ('port = "COM3"\nhigh_um = 1\n', r"stage\.low_um"),
        ('port = "COM3"\nlow_um = 2\nhigh_um = 1\n', r"stage.*high_um must be more than low_um"),
        ('port = "COM3"\nlow_um = 0\nhigh_um = 1\nspeed_um_s = 0\n', r"stage\.speed_um_s"),
        ('port = "COM3"\nlow_um = 0\nhigh_um = 1\nbaud = "fast"\n', r"stage\.baud"),
        ('port = "COM3"\nlow_um = 0\nhigh_um = 1\nplay_um = 3\n', r"stage\.play_um"),
    ],
)
def test_mistakes_in_the_section_of_a_serial_stage_are_named(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(SERIAL + text)
    with pytest.raises(InputError, match=words):
        load_profile(path)


def test_an_unknown_stage_driver_is_named_with_the_known_ones(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('based_on = "simulated"\n[stage]\ndriver = "steam"\n')
    with pytest.raises(InputError, match=r"stage: driver must be one of: simulated, .*grbl"):
        load_profile(path)


def test_a_serial_stage_takes_over_nothing_from_the_simulated_one(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SERIAL + 'port = "COM3"\nlow_um = -5\nhigh_um = 5\n')
    profile = load_profile(path)
    assert profile.stage.model_fields_set == {"driver", "port", "low_um", "high_um"}
    assert not profile.is_simulated
    assert profile.changed(stage={"low_um": -7}).stage.port == "COM3"


def test_every_shipped_profile_is_valid_and_every_driver_has_one():
    profiles = [load_profile(name) for name in profile_names()]
    assert {profile.stage.driver for profile in profiles} == {"simulated", "micromanager", *DRIVERS}
    assert {profile.camera.driver for profile in profiles} == {"simulated", *SECTIONS}


def test_a_microscope_on_a_serial_stage_sees_what_the_stage_does():
    with GrblEmulator() as emulator:
        profile = load_profile("grbl").changed(
            stage={"port": emulator.port, "trust_position": True}, camera={"image_shape": (64, 64)}
        )
        with open_microscope(profile) as microscope:
            assert microscope.axis.is_referenced
            assert microscope.axis.move_to(50.0) == pytest.approx(50.0, abs=0.2)
            assert emulator.motor.position_um == pytest.approx(50.0, abs=0.2)
            assert microscope.camera.image_shape == (64, 64)
        with pytest.raises(StageError, match=r"closed"):
            microscope.axis.move_to(0.0)


def test_a_profile_based_on_itself_is_refused(tmp_path):
    path = tmp_path / "loop.toml"
    path.write_text(f"based_on = '{path}'\n")
    with pytest.raises(InputError, match="itself"):
        load_profile(path)


def test_missing_profiles_and_files_are_named(tmp_path):
    with pytest.raises(InputError, match="simulated-step"):
        load_profile("no such microscope")
    with pytest.raises(InputError, match="gone"):
        load_profile(tmp_path / "gone.toml")


def test_changed_checks_as_well():
    with pytest.raises(InputError, match=r"camera\.read_noise_e"):
        load_profile("simulated").changed(camera={"read_noise_e": -1})


def test_a_saved_profile_is_the_same_microscope_again(tmp_path):
    path = tmp_path / "mine.toml"
    for name in profile_names():
        profile = load_profile(name).changed(
            axis={"sign": -1, "backlash_um": 7.5}, objectives=[{"name": "5 ×", "magnification": 5, "na": 0.1}],
            objective="5 ×", title='A "new" one',
        )  # fmt: skip
        save_profile(profile, path)
        again = load_profile(path)
        assert again.name == "mine"
        assert again.model_copy(update={"name": profile.name}) == profile
        assert "based_on" not in path.read_text(encoding="utf-8")


def test_a_measured_pixel_size_counts_more_than_the_magnification():
    profile = load_profile("simulated").changed(
        objectives=[{"name": "10x / 0.30", "magnification": 10, "na": 0.3, "pixel_um": 0.4876}]
    )
    assert profile.pixel_um == 0.4876


def test_a_mistake_tells_its_field_apart():
    with pytest.raises(ProfileFieldError, match=r"stage\.speed_um_s: it must be more than 0") as caught:
        load_profile("grbl").changed(stage={"speed_um_s": 0})
    assert (caught.value.field, caught.value.problem) == ("stage.speed_um_s", "it must be more than 0")
