"""Real data sets that come inside scikit-learn: no file, no download."""

import numpy as np

from fedlaw_flwr.core.extras import naming_the_extra
from fedlaw_flwr.core.partition import Partition
from fedlaw_flwr.tasks.choice import Choice
from fedlaw_flwr.tasks.models import mlp
from fedlaw_flwr.tasks.pooled import Pool, PooledTask


def digits(partition: Partition, seed: int, choice: Choice) -> PooledTask:
    """1,797 images of 8x8 pixels, ten digits; a perceptron, 64-64-32-10 unless widths say otherwise."""

    def load() -> Pool:
        with naming_the_extra():
            from sklearn.datasets import load_digits

        pool = load_digits()
        return pool.images.astype(np.float32), pool.target

    return PooledTask(
        "digits",
        partition,
        seed,
        choice,
        load=load,
        build=lambda: mlp(64, *(choice.widths or (64, 32)), 10),
        num_labels=10,
        input_shape=(1, 8, 8),
        is_image=True,
    )


def breast_cancer(partition: Partition, seed: int, choice: Choice) -> PooledTask:
    """569 records of 30 measurements, benign or malignant; a perceptron, 30-16-2 unless widths say otherwise."""

    def load() -> Pool:
        with naming_the_extra():
            from sklearn.datasets import load_breast_cancer

        pool = load_breast_cancer()
        return pool.data.astype(np.float64), pool.target

    return PooledTask(
        "breast_cancer",
        partition,
        seed,
        choice,
        load=load,
        build=lambda: mlp(30, *(choice.widths or (16,)), 2),
        num_labels=2,
        input_shape=(30,),
        is_image=False,
        per_feature=True,
    )
