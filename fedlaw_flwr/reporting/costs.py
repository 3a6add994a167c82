"""What a run cost, in bytes and seconds: by exchange, beside averaging with one exchange, and what was saved."""

from collections.abc import Sequence
from dataclasses import replace

from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import ExchangeTotals, RoundEnded
from fedlaw_flwr.reporting.figures import strategy_name
from fedlaw_flwr.reporting.page import Cost, readable_bytes


def costs(rounds: Sequence[RoundEnded]) -> list[Cost]:
    """Bytes and seconds of exchange 1, of exchange 2, of the server between them, and of all."""
    if not rounds:
        return []
    names = ("Exchange 1: the model", "Exchange 2: the trial model")
    kinds = [[event.exchanges[at] for event in rounds if len(event.exchanges) > at] for at in range(len(names))]
    found = [_cost(name, kind) for name, kind in zip(names, kinds, strict=True) if kind]
    seconds = sum(event.seconds for event in rounds)
    everything = _cost("All rounds", [exchange for kind in kinds for exchange in kind])
    own = Cost("The server's own work", len(rounds), seconds - everything.seconds)
    return [*found, own, replace(everything, times=len(rounds), seconds=seconds, is_total=True)]


def _cost(name: str, exchanges: Sequence[ExchangeTotals]) -> Cost:
    return Cost(
        name,
        len(exchanges),
        answered=sum(one.answered for one in exchanges),
        rejected=sum(one.rejected for one in exchanges),
        silent=sum(one.silent for one in exchanges),
        bytes_down=sum(one.bytes_down for one in exchanges),
        bytes_up=sum(one.bytes_up for one in exchanges),
        seconds=sum(one.seconds for one in exchanges),
    )


def one_exchange(run: Run) -> tuple[int, float] | None:
    """Bytes and seconds of the same rounds without their second exchange; None where no round had a second one."""
    if not any(len(event.exchanges) > 1 for event in run.rounds):
        return None
    total = sum(event.bytes_down + event.bytes_up for event in run.rounds)
    seconds = sum(event.seconds for event in run.rounds)
    second = [event.exchanges[1] for event in run.rounds if len(event.exchanges) > 1]
    return total - sum(_moved(one) for one in second), seconds - sum(one.seconds for one in second)


def cost_story(run: Run) -> list[str]:
    """What the run cost beside averaging with one exchange a round, and what was saved, a sentence each."""
    if not run.rounds:
        return []
    total = sum(event.bytes_down + event.bytes_up for event in run.rounds)
    seconds = sum(event.seconds for event in run.rounds)
    single, name = one_exchange(run), strategy_name(run.settings)
    if single is None:
        return [f"The run moved {readable_bytes(total)} in {seconds:.1f} s, with one exchange a round."]
    second = [event for event in run.rounds if len(event.exchanges) > 1]
    more = f" ({100 * (total / single[0] - 1):+.0f} % bytes" if single[0] else " ("
    more += f", {100 * (seconds / single[1] - 1):+.0f} % seconds)" if single[1] > 0 else ")"
    found = [
        f"The run moved {readable_bytes(total)} in {seconds:.1f} s. Averaging with one exchange in the same rounds "
        f"would have moved {readable_bytes(single[0])} in {single[1]:.1f} s: the second exchanges of {len(second)} of "
        f"{len(run.rounds)} rounds are what {name} adds{more}."
    ]
    frozen = [event for event in run.rounds if event.phase == "frozen" and len(event.exchanges) == 1]
    if frozen:
        bytes_each = sum(_moved(event.exchanges[1]) for event in second) / len(second)
        seconds_each = sum(event.exchanges[1].seconds for event in second) / len(second)
        found.append(
            f"Frozen weights saved {len(frozen)} such exchanges, about {readable_bytes(len(frozen) * bytes_each)} and "
            f"{len(frozen) * seconds_each:.1f} s."
        )
    saved = sum(_not_sent(event) for event in second)
    if saved > 0:
        found.append(f"Replies with the loss alone saved about {readable_bytes(saved)} from the silos.")
    return found


def _moved(exchange: ExchangeTotals) -> int:
    return exchange.bytes_down + exchange.bytes_up


def _not_sent(event: RoundEnded) -> float:
    """Bytes that exchange 2 would have had more from the silos with replies as long as in exchange 1."""
    first, second = event.exchanges[0], event.exchanges[1]
    if not first.answered:
        return 0.0
    return max(0.0, first.bytes_up / first.answered * second.answered - second.bytes_up)
