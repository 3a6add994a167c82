"""A good silo's task, and tasks that are wrong in one way each: what `fedlaw check` must find, and by which check."""

import itertools

import numpy as np
import torch
from torch import nn

from fedlaw_flwr.tasks.base import Examples
from fedlaw_flwr.tasks.models import mlp, seeded


def drawn(count: int, seed: int) -> Examples:
    """Four measurements, and whether the first two together are positive."""
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return Examples(inputs, (inputs[:, 0] + inputs[:, 1] > 0).long())


class Good:
    """Nothing is wrong with it."""

    name = "good"

    def __init__(self, data_path, options):
        self.data_path, self.options = data_path, options
        self.train, self.test = drawn(96, 1), drawn(24, 2)

    def net(self):
        return mlp(4, 6, 2)

    def build_model(self, seed):
        return seeded(self.net, seed)

    def loss(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets)

    def metrics(self, outputs, targets):
        return {"accuracy": float((outputs.argmax(1) == targets).double().mean())}

    def load_train(self):
        return self.train

    def load_test(self):
        return self.test

    def description(self):
        return {"column a": "numeric, mean 0, deviation 1", "classes": "0, 1"}


# loads


def refuses(data_path, options):
    raise ValueError(f"{data_path}: no column 'age'; there are age_years, sex")


def stumbles(data_path, options):
    return {}["no such key"]


class Halved:
    name = "halved"

    def __init__(self, data_path, options):
        pass

    def build_model(self, seed):
        return mlp(4, 2)


not_a_function = 7


# examples


class Empty(Good):
    def load_train(self):
        return Examples(torch.empty(0, 4), torch.empty(0, dtype=torch.long))


class OneShort(Good):
    def load_train(self):
        return Examples(self.train.inputs[:-1], self.train.targets)


class Holes(Good):
    def load_train(self):
        inputs = self.train.inputs.clone()
        inputs[3, 1] = inputs[7, 2] = float("nan")
        return Examples(inputs, self.train.targets)


class NumPyInputs(Good):
    def load_train(self):
        return Examples(self.train.inputs.numpy(), self.train.targets)


class Tuples(Good):
    def load_test(self):
        return self.test.inputs, self.test.targets


class OtherWidth(Good):
    def load_test(self):
        return Examples(self.test.inputs[:, :3], self.test.targets)


# seeded, random_state


class Unseeded(Good):
    def build_model(self, seed):
        return self.net()


class SeedsTheProcess(Good):
    def build_model(self, seed):
        torch.manual_seed(seed)
        return self.net()


class SeedsNumPy(Good):
    def build_model(self, seed):
        np.random.seed(seed)
        return seeded(self.net, seed)


# state


class NoNumber(Good):
    def net(self):
        model = mlp(4, 6, 2)
        nn.init.constant_(model[1].bias, float("nan"))
        return model


class HalfBrain(Good):
    def net(self):
        return mlp(4, 6, 2).bfloat16()


class Packed(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
        self.register_buffer("packed", torch.zeros(3).to(torch.float8_e4m3fn))


class Float8(Good):
    def net(self):
        return Packed()


class Sparse(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
        self.register_buffer("adjacency", torch.eye(3).to_sparse())


class SparseBuffer(Good):
    def net(self):
        return Sparse()


class NothingToLearn(Good):
    def net(self):
        return nn.Flatten()


# outputs


class OtherInputs(Good):
    def net(self):
        return mlp(5, 6, 2)


class Pools(nn.Linear):
    def forward(self, x):
        return super().forward(x).mean(0, keepdim=True)


class OneForAll(Good):
    def net(self):
        return Pools(4, 2)


class Logarithm(nn.Linear):
    def forward(self, x):
        return super().forward(x.log())


class NotFinite(Good):
    def net(self):
        return Logarithm(4, 2)


class InPlace(Good):
    def net(self):
        return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2))


# loss, mean, pairs


class EachItsOwn(Good):
    def loss(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, reduction="none")


class Infinite(Good):
    def loss(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets) / 0.0


class FloatTargets(Good):
    def __init__(self, data_path, options):
        super().__init__(data_path, options)
        self.train = Examples(self.train.inputs, self.train.targets.float())


class Sum(Good):
    def loss(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, reduction="sum")


class Broadcast(Good):
    def net(self):
        return nn.Linear(4, 1)

    def loss(self, outputs, targets):
        return ((outputs - targets) ** 2).mean()

    def metrics(self, outputs, targets):
        return {"accuracy": float(((outputs[:, 0] > 0.5) == targets).double().mean())}


# gradient


class ForgetsALayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.forgotten = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        return self.used(x)


class Forgotten(Good):
    def net(self):
        return ForgetsALayer()


class Detached(Good):
    def loss(self, outputs, targets):
        return nn.functional.cross_entropy(outputs.detach(), targets)


class AllFrozen(Good):
    def net(self):
        return mlp(4, 6, 2).requires_grad_(False)


# learning


class RawUnits(Good):
    """Salt in milligrams: a step of 0.1 throws the weights far beyond the loss's valley."""

    def __init__(self, data_path, options):
        super().__init__(data_path, options)
        self.train = Examples(1000 * self.train.inputs, self.train.targets.float())

    def net(self):
        return nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))

    def loss(self, outputs, targets):
        return ((outputs - targets) ** 2).mean()

    def load_test(self):
        return Examples(1000 * self.test.inputs, self.test.targets.float())

    def metrics(self, outputs, targets):
        return {"error": float((outputs - targets).abs().mean())}


class Uphill(Good):
    """The likelihood, without its minus sign."""

    class Flipped(torch.autograd.Function):
        @staticmethod
        def forward(context, value):
            return value.clone()

        @staticmethod
        def backward(context, gradient):
            return -gradient

    def loss(self, outputs, targets):
        return self.Flipped.apply(nn.functional.cross_entropy(outputs, targets))


# exchange


class Registers(nn.Linear):
    def forward(self, x):
        if self.training:
            self.register_buffer("seen", torch.tensor(float(len(x))))
        return super().forward(x)


class GrowsABuffer(Good):
    def net(self):
        return Registers(4, 2)


class OneLeftForBatchNorm(Good):
    """97 examples in batches of 16: one is left."""

    def __init__(self, data_path, options):
        super().__init__(data_path, options)
        self.train = drawn(97, 1)

    def net(self):
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


# repeatable


class Noisy(nn.Linear):
    def forward(self, x):
        noise = np.random.default_rng().normal(0, 0.01, x.shape) if self.training else 0
        return super().forward(x + torch.as_tensor(noise, dtype=x.dtype))


class UnseededNoise(Good):
    def net(self):
        return Noisy(4, 2)


class SplitsByChance(Good):
    def __init__(self, data_path, options):
        super().__init__(data_path, options)
        order = torch.from_numpy(np.random.default_rng().permutation(96))
        self.train = Examples(self.train.inputs[order], self.train.targets[order])


# metrics


class NaNMetric(Good):
    def metrics(self, outputs, targets):
        return {"accuracy": 0.5, "sensitivity": float("nan")}


class TensorMetric(Good):
    def metrics(self, outputs, targets):
        return {"accuracy": (outputs.argmax(1) == targets).float().mean()}


class TakenName(Good):
    def metrics(self, outputs, targets):
        return {"accuracy": 0.5, "num-examples": 24.0}


# description


class NumbersInDescription(Good):
    def description(self):
        return {"columns": 4}


class LongDescription(Good):
    def description(self):
        return {"vocabulary": "word " * 20_000}


class RestlessDescription(Good):
    count = itertools.count()

    def description(self):
        return {"built": str(next(self.count))}


class QuotesARow(Good):
    def description(self):
        return {"example": f"a row looks like {self.train.inputs[5].tolist()}"}


class QuotesAColumn(Good):
    def description(self):
        return {"column a": ", ".join(repr(value) for value in self.test.inputs[3:8, 0].tolist())}


class SaysThePath(Good):
    def description(self):
        return {"source": f"read from {self.data_path}"}


# raw_data


class KeepsRows(Good):
    def build_model(self, seed):
        model = seeded(self.net, seed)
        model.register_buffer("neighbours", self.train.inputs[10:20].clone())
        return model


class KeepsTargets(Good):
    def build_model(self, seed):
        model = seeded(self.net, seed)
        model.register_buffer("labels", self.train.targets.clone())
        return model


class Prototypes(nn.Module):
    """Distances to prototypes, turned round: column by column."""

    def __init__(self, rows):
        super().__init__()
        self.centres, self.out = nn.Parameter(rows.T.contiguous()), nn.Linear(rows.shape[0], 2)

    def forward(self, x):
        return self.out(x @ self.centres)


class StartsFromData(Good):
    def build_model(self, seed):
        return seeded(lambda: Prototypes(self.train.inputs[:80]), seed)


class NeedsBothClasses(Good):
    def loss(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets) / (2 * targets.double().std(unbiased=False))


WRONG = {
    "loads": [refuses, stumbles, Halved, "not_a_function", "missing"],
    "examples": [Empty, OneShort, Holes, NumPyInputs, Tuples, OtherWidth],
    "seeded": [Unseeded],
    "random_state": [SeedsTheProcess, SeedsNumPy],
    "state": [NoNumber, HalfBrain, Float8, SparseBuffer, NothingToLearn],
    "outputs": [OtherInputs, OneForAll, NotFinite, InPlace],
    "loss": [EachItsOwn, Infinite, FloatTargets],
    "mean": [Sum],
    "pairs": [Broadcast],
    "gradient": [Forgotten, Detached, AllFrozen],
    "learning": [RawUnits, Uphill],
    "exchange": [GrowsABuffer, OneLeftForBatchNorm],
    "repeatable": [UnseededNoise, SplitsByChance],
    "review": [NeedsBothClasses],
    "metrics": [NaNMetric, TensorMetric, TakenName],
    "description": [
        NumbersInDescription,
        LongDescription,
        RestlessDescription,
        QuotesARow,
        QuotesAColumn,
        SaysThePath,
    ],
    "raw_data": [KeepsRows, KeepsTargets, StartsFromData],
}
"""The wrong tasks by the check that must find them."""


# What is worth a note and no more.


class BatchNormed(Good):
    def net(self):
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


class Negative(Good):
    def loss(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets) - 10


class PartlyFrozen(Good):
    def net(self):
        model = mlp(4, 6, 2)
        model[1].requires_grad_(False)
        return model


class StartsAtZero(Good):
    def net(self):
        model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
        nn.init.zeros_(model[1].weight)
        return model


class SameForEverySeed(Good):
    def build_model(self, seed):
        return seeded(self.net, 7)


class TestsOnTraining(Good):
    def load_test(self):
        return Examples(self.train.inputs[:5], self.train.targets[:5])


class NothingHeldBack(Good):
    def load_test(self):
        return Examples(torch.empty(0, 4), torch.empty(0, dtype=torch.long))


class WeighsClasses(Good):
    """A weighted mean is a mean, though not of the single losses."""

    def loss(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, weight=torch.tensor([1.0, 5.0]))


class Average(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
        self.register_buffer("average", torch.zeros(4))

    def forward(self, x):
        if self.training:
            self.average.lerp_(x.mean(0), 0.1)
        return super().forward(x - self.average)


class MovingBuffer(Good):
    def net(self):
        return Average()


class Masked(nn.Linear):
    """With an attention mask, as torch.nn.Transformer.generate_square_subsequent_mask makes it."""

    def __init__(self):
        super().__init__(4, 2)
        self.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))

    def forward(self, x):
        return super().forward(x @ self.mask.softmax(1))


class CausalMask(Good):
    def net(self):
        return Masked()


class Fourier(nn.Module):
    """Complex weights on the spectrum of four numbers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, dtype=torch.cfloat))

    def forward(self, x):
        return (torch.fft.rfft(x) @ self.weight).real


class Spectral(Good):
    def net(self):
        return Fourier()


class CountsInDescription(Good):
    def description(self):
        return {"records": f"{len(self.train)} in all"}


class HarmlessNumbers(Good):
    """96.0 is no count though there are 96 examples, and 0, 1, 2, 3 are labels though a record reads so."""

    def __init__(self, data_path, options):
        super().__init__(data_path, options)
        self.train.inputs[0] = torch.arange(4.0)

    def description(self):
        return {"column a": "mean 96.0, deviation 0.96", "classes": "0, 1, 2, 3"}


class Dropout(Good):
    def net(self):
        return nn.Sequential(nn.Linear(4, 32), nn.Dropout(0.5), nn.Linear(32, 2))
