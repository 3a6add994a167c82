"""What a client answers beside training, what leaves the building with a reply, and what an exchange costs."""

from typing import Any

import numpy as np
from flwr.app import Array, MessageType, RecordDict

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.conformance.probe import Probe
from fedlaw_flwr.protocol import gate
from fedlaw_flwr.protocol.exchange import payload_bytes
from fedlaw_flwr.protocol.gate import Rejected


def evaluate(probe: Probe) -> Finding:
    """Whether evaluate messages are answered with numbers."""
    only_for_training = dict.fromkeys(("lr", "local-epochs", "batch-size", "reply"))
    config = {"exchange": 0, **only_for_training}
    answer = probe.ask(probe.model.arrays(), config, message_type=MessageType.EVALUATE)
    if answer.failure:
        return note(f"evaluate is not answered ({answer.failure}): the silo's figures will be missing, nothing else")
    try:
        metrics = gate.read_metrics(probe.content(answer))
    except Rejected as reason:
        return wrong(f"evaluate gets a reply without figures: {reason}; reply one MetricRecord of numbers")
    return ok(f"evaluate is answered: {', '.join(f'{key}={value:.4g}' for key, value in metrics.items())}")


def query(probe: Probe) -> Finding:
    """Whether query says what is learned, in the form in which the server compares it."""
    answer = probe.query()
    if answer.failure:
        return note(f"query is not answered ({answer.failure}): the silo is admitted without comparing what it learns")
    entries = gate.read_description(probe.content(answer))
    if entries is None:
        return wrong(
            "query gets a reply that says nothing the server can compare: under `description` a ConfigRecord is "
            "expected whose key `description` is a JSON object of texts; docs/reference/protocol.md has an example"
        )
    said = "; ".join(f"{name}: {text}" for name, text in list(entries.items())[:3])
    return ok(f"query says {len(entries)} things that silos must agree on ({said}{' ...' * (len(entries) > 3)})")


def leaves(probe: Probe) -> Finding:
    """Everything that a reply carries."""
    content = probe.content(probe.first)
    return note(f"a reply carries {_told(content)}, and nothing else")


def cost(probe: Probe) -> Finding:
    """Bytes and seconds of an exchange, here."""
    down = payload_bytes({"arrays": probe.model.arrays()})
    up = payload_bytes(probe.content(probe.first))
    seconds = f"{probe.first.seconds:.2f} s and {probe.second.seconds:.2f} s for the two exchanges of a round"
    return note(f"{seconds}; a reply of {up} bytes for a model of {down}")


def _told(content: RecordDict) -> str:
    parts = []
    for name, record in content.items():
        numbers = sum(int(np.prod(v.shape)) for v in record.values() if isinstance(v, Array))
        if numbers:
            parts.append(f"{name} ({len(record)} arrays, {numbers} numbers)")
        else:
            parts.append(f"{name} ({', '.join(_entry(key, value) for key, value in record.items())})")
    return ", ".join(parts)


def _entry(key: str, value: Any) -> str:
    return f"{key}: {len(value)} values" if isinstance(value, list | bytes) else key
