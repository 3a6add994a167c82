"""How large the ledger of a long run is, and how much CPU time it takes to write and to verify.

python -m benchmarks.ledger [--silos 200] [--rounds 400]
"""

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord

from fedlaw_flwr.events.types import RoundEnded
from fedlaw_flwr.ledger.verify import Written, verify
from fedlaw_flwr.protocol.exchange import Arrived, Outcome
from fedlaw_flwr.protocol.roster import Roster, Silo
from fedlaw_flwr.strategy.evidence import evidence_of


def one_round(number: int, silos: list[Silo], rng: np.random.Generator) -> tuple[Any, RoundEnded]:
    """A round of FedLAW with two exchanges in which every silo answers, with numbers of full length."""
    n = len(silos)

    def exchange() -> Outcome:
        arrived = {silo: Arrived(712_612, float(rng.random()), rng.bytes(32).hex()) for silo in silos}
        return Outcome(answered=silos, arrived=arrived)

    def numbers() -> tuple[float, ...]:
        return tuple(rng.random(n).tolist())

    names = tuple(silo.name for silo in silos)
    event = RoundEnded(
        round=number,
        skipped=False,
        phase="learning",
        silos=names,
        scored=names,
        clip=0.5,
        losses=numbers(),
        norms=numbers(),
        weights=numbers(),
        trial_losses=numbers(),
        alignment=numbers(),
        scores=numbers(),
    )
    exchanges = SimpleNamespace(
        outcomes=[exchange(), exchange()], replies=SimpleNamespace(silos=silos), unreviewed={}, server_round=number
    )
    return exchanges, event


def main() -> None:
    """Writes such a ledger and prints its size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--silos", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=400)
    chosen = parser.parse_args()
    rng, roster = np.random.default_rng(0), Roster()
    for silo in range(chosen.silos):
        roster.claim(silo + 2, silo)
    silos = [roster.silo(silo + 2) for silo in range(chosen.silos)]
    model = ArrayRecord({"w": Array(np.zeros(10, np.float32))})
    with tempfile.TemporaryDirectory() as name:
        folder, seconds = Path(name), 0.0
        with evidence_of(folder, "") as evidence:
            for number in range(1, chosen.rounds + 1):
                exchanges, event = one_round(number, silos, rng)
                began = time.process_time()
                evidence.tell_round(exchanges, event, roster, model)
                seconds += time.process_time() - began
        size = (folder / "ledger.jsonl").stat().st_size
        began = time.process_time()
        ledger = Written.read(folder)
        found = [one.what for one in verify(ledger, ended=True) if one.kind == "wrong"]
        took = time.process_time() - began
    lines = len(ledger.lines)
    print(
        f"{chosen.silos} silos x {chosen.rounds} rounds: {size / 1e6:.1f} MB, {lines} lines of {size / lines:.0f} bytes"
    )
    written = f"written in {1e3 * seconds / chosen.rounds:.0f} ms of CPU a round"
    print(f"{written}, verified in {took:.1f} s of CPU, wrong: {len(found)}")
    print(f"heads that a silo keeps: {sum(len(head.text()) + 1 for head in ledger.heads) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
