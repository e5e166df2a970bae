"""Losses: right for known errors, blind where nothing is known, and with gradients that point downhill."""

import math

import pytest
import torch

from models.errors import InputError
from models.networks.prediction import Prediction, expectation
from models.training import losses
from models.training.recipe import LossWeights

EVERYTHING = LossWeights(**dict.fromkeys(LossWeights.model_fields, 1.0))


def sample(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores (2, 5, 9, 8) in float64 that want gradients, unequal z and a truth with gaps."""
    torch.manual_seed(seed)
    scores = torch.randn(2, 5, 9, 8, dtype=torch.float64, requires_grad=True)
    z = torch.tensor([[0.0, 1, 2, 3, 4], [0, 0.5, 1.7, 2.9, 4]], dtype=torch.float64)
    truth = torch.rand(2, 9, 8, dtype=torch.float64) * 4
    truth[0, :3, :4] = math.nan
    return scores, z, truth


def predict(scores: torch.Tensor, z: torch.Tensor) -> Prediction:
    prediction = expectation(scores, z)
    return prediction._replace(side=(prediction.height * 0.9, prediction.height))


def test_every_term_is_in_the_sum_with_its_weight():
    scores, z, truth = sample()
    total, terms = losses.total_loss(predict(scores, z), z, truth, EVERYTHING)
    assert set(terms) == set(LossWeights.model_fields)
    assert total.item() == pytest.approx(sum(map(float, terms.values())), rel=1e-6)
    doubled, _terms = losses.total_loss(predict(scores, z), z, truth, EVERYTHING.model_copy(update={"edge": 2.0}))
    assert float(doubled - total) == pytest.approx(float(terms["edge"]), rel=1e-5)


def test_what_is_not_known_changes_nothing():
    """Neither the value of a prediction there, nor its gradient."""
    scores, z, truth = sample()
    total, _terms = losses.total_loss(predict(scores, z), z, truth, EVERYTHING)
    total.backward()
    assert torch.isfinite(scores.grad).all()
    assert (scores.grad[0, :, :3, :4] == 0).all()
    assert (scores.grad[1] != 0).any()
    changed = scores.detach().clone()
    changed[0, :, :3, :4] += 3
    again, _terms = losses.total_loss(predict(changed, z), z, truth, EVERYTHING)
    assert float(again) == pytest.approx(float(total), rel=1e-6)


def test_with_nothing_known_the_loss_is_zero_and_learns_nothing():
    scores, z, truth = sample()
    total, terms = losses.total_loss(predict(scores, z), z, torch.full_like(truth, math.nan), EVERYTHING)
    total.backward()
    assert float(total) == 0
    assert all(float(term) == 0 for term in terms.values())
    assert (scores.grad == 0).all()


@pytest.mark.parametrize("term", LossWeights.model_fields)
def test_gradients_are_those_of_the_value(term):
    """Against differences of the loss itself along a random direction."""
    scores, z, truth = sample(3)
    weights = LossWeights(**{**dict.fromkeys(LossWeights.model_fields, 0.0), term: 1.0})

    def value(x: torch.Tensor) -> torch.Tensor:
        prediction = predict(x, z)
        known, filled = torch.isfinite(truth), torch.where(torch.isfinite(truth), truth, 0.0)
        if term == "side":
            return losses.multi_scale(prediction.side, filled, known)
        if term == "laplace":
            return losses.laplace(prediction.height, prediction.spread, filled, known)
        if term == "focus":
            return losses.focus(prediction.weights, z, filled, known)
        if term == "absolute":
            return losses.masked_mean((prediction.height - filled).abs(), known)
        return getattr(losses, term)(prediction.height, filled, known)

    losses.total_loss(predict(scores, z), z, truth, weights)[0].backward()
    direction = torch.randn_like(scores)
    h = 1e-6
    slope = float(value(scores.detach() + h * direction) - value(scores.detach() - h * direction)) / (2 * h)
    assert float((scores.grad * direction).sum()) == pytest.approx(slope, rel=2e-3, abs=1e-6)


def test_values_of_known_errors():
    truth, known = torch.zeros(1, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
    half = torch.full((1, 8, 8), 0.5)
    assert float(losses.charbonnier(half, truth, known)) == pytest.approx(math.hypot(0.5, 0.05) - 0.05)
    assert float(losses.gradient(half, truth, known)) == 0  # an offset has no edges
    assert float(losses.scale_invariant_log(half, truth, known)) == pytest.approx(0.5 * math.log(1.5) ** 2, rel=1e-5)
    step = torch.zeros(1, 8, 8)
    step[:, :, 4:] = 3.0
    error = torch.zeros(1, 8, 8)
    error[:, :, 0] = 5.0  # far from the wall: the edge term does not see it
    assert float(losses.edge(step + error, step, known)) == 0
    error[:, :, 4] = 1.0
    assert float(losses.edge(step + error, step, known)) == pytest.approx(0.5)


def test_laplace_is_least_at_the_spread_of_the_errors():
    torch.manual_seed(0)
    truth = torch.zeros(1, 200, 200)
    errors = torch.distributions.Laplace(0.0, 0.3).sample((1, 200, 200))
    known = torch.ones_like(truth, dtype=torch.bool)
    spreads = torch.linspace(0.1, 1, 91)
    values = [float(losses.laplace(errors, torch.full_like(truth, float(s)), truth, known)) for s in spreads]
    assert float(spreads[values.index(min(values))]) == pytest.approx(0.3 * math.sqrt(2), abs=0.03)


def test_focus_wants_the_two_frames_around_the_truth():
    z = torch.tensor([[0.0, 1.0, 3.0]])
    known = torch.ones(1, 1, 1, dtype=torch.bool)

    def loss(weights: list[float], truth: float) -> float:
        return float(losses.focus(torch.tensor(weights).view(1, 3, 1, 1), z, torch.full((1, 1, 1), truth), known))

    for truth, best in ((2.5, [0.0, 0.25, 0.75]), (0.0, [1.0, 0.0, 0.0]), (3.4, [0.0, 0.0, 1.0]), (-0.4, [1.0, 0, 0])):
        others = ([1 / 3] * 3, [0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1])
        assert all(loss(best, truth) < loss(other, truth) for other in others), truth


def test_a_loss_without_anything_to_learn_is_refused():
    scores, z, truth = sample()
    only_height = Prediction(predict(scores, z).height)
    with pytest.raises(InputError, match="nothing that this network gives"):
        losses.total_loss(only_height, z, truth, LossWeights(charbonnier=0, laplace=1))
