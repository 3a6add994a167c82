"""Local differential privacy of a silo's updates by Flower's LocalDpMod, and what several exchanges of it add up to."""

import math
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp.mod import LocalDpMod
from numpy.random.mtrand import get_bit_generator, set_bit_generator
from numpy.typing import NDArray

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.protocol.gate import REVIEW
from fedlaw_flwr.silo.policy import Privacy, Refused, goes_back_as_it_came, update

_OWN = "fedlaw-own"


def sigma(privacy: Privacy) -> float:
    """The standard deviation of the noise on every coordinate."""
    return sensitivity(privacy) * math.sqrt(2 * math.log(1.25 / privacy.delta)) / privacy.epsilon


def sensitivity(privacy: Privacy) -> float:
    """How far apart two updates of this silo can be: as given, else the 2 * clip that clipped ones never exceed."""
    return 2 * privacy.clip if privacy.sensitivity is None else privacy.sensitivity


def spent(privacy: Privacy, exchanges: int, review: Privacy | None = None) -> float:
    """The epsilon, at the policy's delta, of so many noised updates together, and as many noised reviews.

    The result is exact for the Gaussian mechanism. k noised updates are one with sensitivity sqrt(k) times as large
    (Dong, Roth and Su 2022, Corollary 3.3). With mu = sqrt(k) sensitivity / sigma, they spend the epsilon at which
    delta is Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu) (Balle and Wang 2018, Theorem 8). This holds for
    any epsilon; the policy's own formula for sigma holds below 1 alone.

    Args:
        privacy: The policy's clip, epsilon, delta and sensitivity.
        exchanges: k, the number of noised updates.
        review: The policy's numbers for reviews, one with each update; None: no review is sent. Default: None. Releases
            of different noise compose as mu^2 = k sum (sensitivity / sigma)^2.

    Raises:
        ValueError: For fewer than one exchange.
    """
    if exchanges < 1:
        raise InputError(f"exchanges={exchanges}: at least one is needed")
    ratios = [sensitivity(one) / sigma(one) for one in (privacy, review) if one is not None]
    mu = math.sqrt(exchanges) * math.hypot(*ratios)
    low, high = 0.0, 1.0
    while _delta(mu, high) > privacy.delta:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _delta(mu, middle) > privacy.delta else (low, middle)
    return high


def in_words(privacy: Privacy, exchanges_per_day: int | None, review: Privacy | None = None) -> str:
    """For the silo's log: the noise, and what one exchange and a day of them spend, with a review in each if sent."""
    day = f", {exchanges_per_day} in a day {spent(privacy, exchanges_per_day, review):.3g}" if exchanges_per_day else ""
    reviewed = f" and of {sigma(review):.3g} on a review's; with both" if review else ";"
    return (
        f"noise of {sigma(privacy):.3g} on every coordinate{reviewed} at delta {privacy.delta:g} one exchange spends "
        f"an epsilon of {spent(privacy, 1, review):.3g}{day}; every exchange of every day adds"
    )


def with_noise(message: Message, reply: Message, context: Context, privacy: Privacy) -> Message:
    """The reply as LocalDpMod lets it out: theta + clip(psi - theta) + N(0, sigma^2).

    The l2 norm that is clipped is that of all floating-point arrays together; of complex arrays, the real and the
    imaginary parts count. Arrays of integers go back as they came, and so do masks with values that are not finite:
    nothing of this silo is in them. Metrics, the loss among them, are not noised.

    Args:
        message: The message received, with the model theta.
        reply: The reply about to be sent, with the trained model psi.
        context: The context of the message, as Flower's mod takes it.
        privacy: The policy's clip, epsilon, delta and sensitivity.

    Returns:
        The noised reply; a reply without arrays is returned as it is.

    Raises:
        Refused: For an update that is not finite, and for arrays that are no update of the model received.
    """
    pair = update(message, reply)
    if pair is None:
        return reply
    received, sent = pair
    floats = [
        key
        for key, array in sent.items()
        if np.issubdtype(array.numpy().dtype, np.inexact) and not goes_back_as_it_came(received[key], array)
    ]
    # float64, since the norm would be taken in the arrays' own precision; 1 dimension or more, since the mod passes
    # scalars by; and one coordinate of our own, since it divides by the norm, which may be 0.
    theta = {key: _reals(received[key].numpy()) for key in floats}
    psi = {key: _reals(sent[key].numpy()) for key in floats}
    if not all(np.isfinite(values).all() for values in (*theta.values(), *psi.values())):
        raise Refused("the update is not finite, so that it cannot be clipped")
    theta[_OWN], psi[_OWN] = np.zeros(1), np.full(1, 1e-6 * privacy.clip)
    asked = Message(_arrays(theta), dst_node_id=message.metadata.dst_node_id, message_type="train")
    answered = Message(_arrays(psi), reply_to=asked)
    mod = LocalDpMod(privacy.clip, sensitivity(privacy), privacy.epsilon, privacy.delta)
    with _noise_of_its_own():
        noised = mod(asked, context, lambda _message, _context: answered)
    values = noised.content.array_records["arrays"]
    out = {key: received[key] for key in sent} | {
        key: Array(_as_sent(values[key].numpy(), sent[key].numpy())) for key in floats
    }
    (name,) = (name for name in reply.content.array_records if name != REVIEW)
    return Message(RecordDict({**reply.content, name: ArrayRecord(out)}), reply_to=message)


def with_noisy_review(message: Message, reply: Message, context: Context, privacy: Privacy) -> Message:
    """The reply with its review clipped and noised as `with_noise` does an update; a reply without one as it is.

    Args:
        message: The message received.
        reply: The reply about to be sent.
        context: The context of the message, as Flower's mod takes it.
        privacy: The policy's clip, epsilon, delta and sensitivity for reviews.

    Raises:
        Refused: For a review that is not finite.
    """
    review = reply.content.array_records.get(REVIEW)
    if review is None:
        return reply
    nothing = {key: Array(np.zeros_like(array.numpy())) for key, array in review.items()}
    asked = Message(
        RecordDict({"arrays": ArrayRecord(nothing)}), dst_node_id=message.metadata.dst_node_id, message_type="train"
    )
    alone = Message(RecordDict({"arrays": review}), reply_to=asked)
    noised = with_noise(asked, alone, context, privacy).content.array_records["arrays"]
    return Message(RecordDict({**reply.content, REVIEW: noised}), reply_to=message)


def reseed() -> None:
    """Seeds the global generators of NumPy and, if it is loaded, torch by the operating system.

    Every fork of one process begins with the same state of both. A client that draws noise of its own from them would
    draw the same noise for every message, and two of its updates would reveal it. (Python's `random` reseeds itself.)
    """
    np.random.seed([secrets.randbits(32) for _ in range(8)])
    if torch := sys.modules.get("torch"):
        torch.seed()


@contextmanager
def _noise_of_its_own() -> Iterator[None]:
    """LocalDpMod draws from NumPy's global generator, which here is one that nobody else has drawn from or seeded.

    Philox with a key of the operating system's. The Mersenne Twister, NumPy's usual one, is linear: whoever knows
    enough of its numbers, as a server does where an update is 0, computes the rest and takes the noise away.
    """
    before = get_bit_generator()
    set_bit_generator(np.random.Philox(key=secrets.randbits(128), counter=secrets.randbits(256)))
    try:
        yield
    finally:
        set_bit_generator(before)


def _reals(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """The numbers in float64, complex ones as pairs of real and imaginary part in one more dimension."""
    if np.iscomplexobj(values):
        return np.stack([values.real, values.imag], axis=-1).astype(np.float64)
    return np.atleast_1d(values).astype(np.float64)


def _as_sent(reals: NDArray[np.float64], sent: NDArray[np.generic]) -> NDArray[np.generic]:
    """These numbers in the shape and dtype of what was to be sent."""
    if np.iscomplexobj(sent):
        reals = np.asarray(reals[..., 0] + 1j * reals[..., 1])
    found: NDArray[np.generic] = reals.reshape(sent.shape).astype(sent.dtype)
    return found


def _arrays(values: dict[str, NDArray[np.float64]]) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord({key: Array(value) for key, value in values.items()})})


def _delta(mu: float, epsilon: float) -> float:
    """delta of a Gaussian mechanism with this ratio of sensitivity to sigma, at this epsilon."""
    first, second = _phi(mu / 2 - epsilon / mu), _phi(-mu / 2 - epsilon / mu)
    return first - math.exp(epsilon + math.log(second)) if second > 0 else first


def _phi(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2
