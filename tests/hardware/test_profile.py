import pytest

from hardware.profile import load_profile, open_microscope, profile_names
from models.errors import InputError
from models.surfaces import SURFACES


def test_every_shipped_profile_opens_on_its_surface():
    names = profile_names()
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
