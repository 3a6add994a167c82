"""A silo's review: the gradient of its class-balanced loss, and what is left as it was."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from fedlaw_flwr.training import reviews
from fedlaw_flwr.training.reviews import review


def data(m=40, d=5, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(m, d, generator=generator)
    targets = torch.cat([torch.zeros(m - 6, dtype=torch.long), torch.tensor([1, 1, 1, 1, 2, 2])])[:m]
    return inputs, targets % classes


def linear(d=5, classes=3):
    torch.manual_seed(1)
    return nn.Linear(d, classes)


def plainly(model, inputs, targets):
    """The class-balanced loss by one weight an example, and its gradient by autograd on the whole."""
    count = torch.bincount(targets)[targets]
    weights = 1.0 / (count * len(targets.unique()))
    loss = (weights * cross_entropy(model(inputs), targets, reduction="none")).sum()
    return float(loss), dict(
        zip(dict(model.named_parameters()), torch.autograd.grad(loss, model.parameters()), strict=True)
    )


@pytest.mark.parametrize("batch", [2048, 7])
def test_the_review_is_the_gradient_of_the_mean_over_classes_of_the_mean_in_each(monkeypatch, batch):
    monkeypatch.setattr(reviews, "REVIEW_BATCH", batch)
    model, (inputs, targets) = linear(), data()
    found = review(model, cross_entropy, inputs, targets)
    loss, gradient = plainly(model, inputs, targets)
    assert found.loss == pytest.approx(loss, rel=1e-5)
    for key, value in gradient.items():
        np.testing.assert_allclose(found.gradient[key].numpy(), value.numpy(), rtol=1e-4, atol=1e-6)


def test_a_rare_class_weighs_as_much_as_a_common_one():
    model, (inputs, targets) = linear(), data()
    repeated = torch.cat([torch.arange(40), torch.arange(34).repeat(5)])  # class 0 six times as often
    one, other = (
        review(model, cross_entropy, inputs, targets),
        review(model, cross_entropy, inputs[repeated], targets[repeated]),
    )
    assert one.loss == pytest.approx(other.loss, rel=1e-5)


def test_a_silo_of_one_class_and_regression_review_by_their_mean_loss():
    inputs, _ = data()
    model = linear(classes=1)
    targets = inputs.sum(1, keepdim=True)
    found = review(model, mse_loss, inputs, targets)
    assert found.loss == pytest.approx(float(mse_loss(model(inputs), targets)), rel=1e-5)
    alone = torch.ones(40, dtype=torch.long)
    held = review(linear(), cross_entropy, inputs, alone)
    assert held.loss == pytest.approx(float(cross_entropy(linear()(inputs), alone)), rel=1e-5)


def test_classes_of_ones_own_decide_where_they_are_given():
    inputs, targets = data()
    model = linear()
    together = review(model, cross_entropy, inputs, targets, torch.zeros(40, dtype=torch.long))
    assert together.loss == pytest.approx(float(cross_entropy(model(inputs), targets)), rel=1e-5)


def test_batch_norm_and_dropout_are_in_evaluation_mode_and_everything_is_left_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    drawn = torch.get_rng_state()
    inputs, targets = data()
    one, other = (review(model, cross_entropy, inputs, targets) for _ in range(2))
    assert all(torch.equal(one.gradient[key], other.gradient[key]) for key in one.gradient)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training and torch.equal(drawn, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_frozen_or_unused_parameter_has_a_gradient_of_zero():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused, self.frozen = nn.Linear(5, 3), nn.Linear(2, 2), nn.Linear(3, 3)
            self.frozen.requires_grad_(False)

        def forward(self, x):
            return self.frozen(self.used(x))

    found = review(Net(), cross_entropy, *data())
    assert set(found.gradient) == set(dict(Net().named_parameters()))
    for key in ("unused.weight", "frozen.bias"):
        assert not found.gradient[key].any()
    assert found.gradient["used.weight"].any()


def test_no_examples_and_classes_of_another_length_are_refused():
    inputs, targets = data()
    with pytest.raises(ValueError, match="at least one example"):
        review(linear(), cross_entropy, inputs[:0], targets[:0])
    with pytest.raises(ValueError, match="one class for each of 40 inputs"):
        review(linear(), cross_entropy, inputs, targets, targets[:3])
