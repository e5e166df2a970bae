"""Recipes: those that come with the program, and the one sentence about what is wrong with another."""

import pytest

from models.errors import InputError
from models.training.recipe import Optimiser, Recipe, Stage, load_recipe, recipe_names


def test_every_recipe_of_the_program_is_valid():
    assert {"default", "published"} <= set(recipe_names())
    for name in recipe_names():
        assert load_recipe(name).name == name


def test_the_published_recipe_is_what_the_paper_says():
    recipe = load_recipe("published")
    assert (recipe.network, recipe.epochs, recipe.batch) == ("gplws-net-2023", 720, 4)
    assert (recipe.optimiser.name, recipe.optimiser.learning_rate) == ("adam", 1e-3)
    assert recipe.augmentation.flip
    assert recipe.augmentation.rotate
    assert recipe.augmentation.gamma > 0
    assert recipe.stages[0].frames == (20, 20)
    # Nothing that the paper does not name.
    assert not any((recipe.ema, recipe.augmentation.noise, recipe.augmentation.reverse, recipe.augmentation.irregular))


BASE = 'network = "gplws-net-2023"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps = 10\nnetwork = 'nothing'", r"network: There is no network called 'nothing'.*gplws-net-2023"),
        (BASE, "recipe: give either steps or epochs"),
        (BASE + "steps = 3\nepochs = 2", "give either steps or epochs"),
        (BASE + "steps = 0", "steps: it must be 1 or more"),
        (BASE + "steps = 3\nbetch = 2", "betch: there is no such setting"),
        (BASE + "steps = 3\nprecision = 'half'", "precision: it must be 'off', 'auto', 'bf16' or 'fp16'"),
        (BASE + "steps = 3\nema = nan", "ema: "),
        (BASE + "steps = 3\n[optimiser]\nlearning_rate = -1", r"optimiser\.learning_rate: it must be more than 0"),
        (BASE + "steps = 3\n[[stages]]\ncrop = [128, 96]", r"stages\.0\.crop: the first number must not be larger"),
        (BASE + "steps = 3\n[[stages]]\nuntil = 0.5", "stages: 'until' must rise from stage to stage and end at 1"),
        (BASE + "steps = 3\n[loss]\ncharbonnier = 0", "every part of the loss is 0"),
        ("steps = ", "is not valid TOML"),
    ],
)
def test_errors_name_the_field(tmp_path, text, says):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        load_recipe(path)


def test_unknown_recipes_are_told_with_the_names(tmp_path):
    with pytest.raises(InputError, match=r"no recipe called 'fast'.*default.*published"):
        load_recipe("fast")
    with pytest.raises(InputError, match="There is no file"):
        load_recipe(tmp_path / "none.toml")


def test_changes_are_checked_and_keep_the_rest_of_a_section():
    recipe = load_recipe("default").changed(optimiser={"warm_up": 0.1}, seed=7)
    assert (recipe.optimiser.warm_up, recipe.seed) == (0.1, 7)
    assert recipe.optimiser.clip_gradients == load_recipe("default").optimiser.clip_gradients
    with pytest.raises(InputError, match="batch: it must be 1 or more"):
        recipe.changed(batch=0)


def test_learning_rate_over_the_run():
    cosine = Optimiser(learning_rate=1.0, warm_up=0.1, final=0.01)
    assert 0 < cosine.rate(0) < cosine.rate(0.05) < cosine.rate(0.1) == pytest.approx(1)
    assert cosine.rate(0.55) == pytest.approx(0.505)
    assert cosine.rate(1) == pytest.approx(0.01)
    constant = Optimiser(learning_rate=0.5, schedule="constant")
    assert {constant.rate(f) for f in (0, 0.3, 1)} == {0.5}


def test_stages_follow_the_part_that_is_done():
    stages = (Stage(until=0.5, crop=(32, 32)), Stage(until=1, crop=(64, 64)))
    recipe = Recipe(name="x", network="gplws-net-2023", steps=1, stages=stages)
    assert [recipe.stage(f).crop[0] for f in (0, 0.49, 0.5, 1)] == [32, 32, 64, 64]
