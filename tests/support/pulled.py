"""Scripts of silos that all want one vector: honest ones near it, inverse ones away from it, silent ones."""

import numpy as np
from scripted import reply

START = {"w": np.zeros(4, np.float32)}
TARGET = np.array([1.0, -1.0, 2.0, 0.5], np.float32)


def honest(i):
    """A silo pulled towards TARGET, a little off it in its own direction."""
    return pulled(i, TARGET + 0.05 * np.cos(np.arange(4) * (i + 1)).astype(np.float32))


def pulled(i, centre):
    """A silo pulled towards a centre of its own."""

    def answer(received):
        theta = received.arrays["w"]
        arrays = None if received.reply == "loss" else {"w": theta - 0.1 * (theta - centre)}
        return reply(arrays, float(np.sum((theta - centre) ** 2)) + 0.01, partition=i)

    return answer


def inverse(i):
    def answer(received):
        theta = received.arrays["w"]
        return reply({"w": theta + 0.3 * (theta - TARGET)}, float(np.sum((theta - TARGET) ** 2)), partition=i)

    return answer


def silent(received):
    return None
