"""The settings every strategy here shares: each defined once."""

import re
from dataclasses import dataclass

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.setting import count_or_fraction, setting
from fedlaw_flwr.protocol.layout import BATCH_NORM


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise InputError(f"no regular expression: {error}") from None
    return value


@dataclass(kw_only=True)
class ServerOptions:
    """The server"""

    max_byzantine: int | float = setting(
        0.2,
        "b, the most silos that may be Byzantine: a count or a fraction; 2b + 2 <= n",
        allowed="a count (4) or a fraction of the silos (0.2)",
        check=count_or_fraction,
    )
    quorum: int = setting(
        0,
        "fewest usable replies that move the model, beside 2b + 2; where set, a run also starts as soon as this many "
        "silos are online",
        least=0,
        unit="silos",
    )
    buffers: str = setting(
        BATCH_NORM,
        "pattern of the float arrays that are no parameters; they are combined by the median over silos with weight",
        allowed="a regular expression",
        check=_pattern,
    )
    startup_timeout: float = setting(
        120.0,
        "how long to wait for silos to come online before the first round",
        above=0,
        unit="seconds",
        formerly="wait",
    )
    keep_checkpoints: int = setting(
        3,
        "how many checkpoints of a run are kept, the newest ones; one is written after every round, for a run that is "
        "resumed; 0: none is written",
        least=0,
        unit="checkpoints",
    )
    server_key: str = setting(
        "",
        "the file of the server's Ed25519 key (PEM), which signs ledgers and checkpoints; made if it is not there; "
        "empty: the one that FEDLAW_SERVER_KEY names, else a key of the run's own for its ledger, ledger.key in the "
        "run folder",
    )
    matrix_in: str = setting(
        "",
        "a folder of the server's disk in which the silos' updates and reviews lie during a run, where they do not fit "
        "into memory; empty: they lie in memory",
    )
    min_silos: int | float = setting(
        0,
        "fewest silos that must be online and not sit out for a round to begin, a count or a fraction of the silos; 0: "
        "as many as can move the model",
        allowed="a count (6) or a fraction of the silos (0.5)",
        check=count_or_fraction,
    )
    rejoin_timeout: float = setting(
        600.0, "how long a round waits for min-silos before the run ends", least=0, unit="seconds"
    )
    strikes: int = setting(
        3,
        "after so many rounds in a row without a usable reply a silo sits out until it is pardoned; 0: never",
        least=0,
        unit="rounds",
    )
    fraction_train: float = setting(
        1.0,
        "the share of the silos drawn for each round; at least 2b + 2 must be",
        above=0,
        most=1,
    )
    trial_timeout: float = setting(
        0.0, "how long exchange 2 waits for its silos; 0: as long as exchange 1", least=0, unit="seconds"
    )
    evaluate_timeout: float = setting(
        0.0, "how long silos have to measure a model; 0: as long as exchange 1 waits", least=0, unit="seconds"
    )
