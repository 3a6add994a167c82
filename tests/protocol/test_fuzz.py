"""Random hostile replies over the gate, updates and reviews alike: each is used as NumPy reads it or refused in a line.

`make test` draws 320. `make test-slow` draws 10,000, three to six minutes on two cores. What either finds is
kept in corpus.jsonl, which every run replays.
"""

import base64
import json
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord
from fuzzed import GRADIENT, STATE, as_bytes, from_bytes, replies, travelled, valid
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from scripted import ScriptedGrid, record_of, stopped_clock

from fedlaw_flwr.protocol import gate
from fedlaw_flwr.protocol.gate import BALANCED_LOSS, Rejected
from fedlaw_flwr.protocol.layout import Layout
from fedlaw_flwr.protocol.roster import Roster
from fedlaw_flwr.protocol.round import Channel, Matrix, RoundExchanges

CORPUS = Path(__file__).with_name("corpus.jsonl")
MODEL = Layout.of(record_of(STATE)).split(record_of(STATE))
_GUARD = 12345.0
QUICK = settings(derandomize=True, deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


def through_the_gate(content):
    """What the gate makes of a reply: for each part "used", or why not. Holds whatever must hold of any reply."""
    layout = MODEL.layout
    rows = np.full((3, layout.num_parameters), _GUARD, np.float32)
    buffers = np.full((3, layout.num_buffers), _GUARD, np.float32)
    reviews = np.full((3, layout.num_parameters), 99, np.float16)
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of odd headers; the gate's answer is what counts
        for part, read in {
            "loss": lambda: gate.read_loss(content, "loss", 0.0),
            "balanced": lambda: gate.read_loss(content, BALANCED_LOSS, 0.0),
            "size": lambda: gate.read_size(content),
            "update": lambda: gate.read_update(content, MODEL, rows[1], buffers[1], with_review=True),
            "review": lambda: gate.read_review(content, layout, reviews[1]),
        }.items():
            try:
                number = read()
            except Rejected as refusal:
                reason = str(refusal)
                assert reason.isprintable() and 0 < len(reason) < 400, reason
                found[part] = reason
            else:
                assert np.isfinite(number), (part, number)
                found[part] = "used"
        claim, said = gate.read_claim(content), gate.read_description(content)
        alarms = gate.read_alarms(content)
    assert claim is None or 0 <= claim < 2**31
    assert said is None or all(isinstance(text, str) for text in said.values())
    assert len(alarms) <= 20 and all(len(text) < 300 and "\n" not in text for text in alarms)
    # No row but its own, whatever the reply claims of its size.
    assert (rows[[0, 2]] == _GUARD).all() and (buffers[[0, 2]] == _GUARD).all() and (reviews[[0, 2]] == 99).all()
    if found["update"] == "used":
        assert np.isfinite(rows[1]).all() and np.isfinite(buffers[1]).all()
        arrays = gate.only(content, ArrayRecord, but=gate.REVIEW)
        expected = np.concatenate([(STATE[key] - arrays[key].numpy()).reshape(-1) for key in ("w", "scale")])
        np.testing.assert_array_equal(rows[1], expected)  # as NumPy itself reads the bytes
    if found["review"] == "used":
        assert np.isfinite(reviews[1]).all() and np.abs(reviews[1]).max() <= 1
    return found


def test_an_honest_reply_passes_and_travels_unchanged():
    assert set(through_the_gate(valid()).values()) == {"used"}
    assert as_bytes(from_bytes(as_bytes(valid()))) == as_bytes(valid())


# -- the corpus ----------------------------------------------------------------------------------------------------


def corpus():
    return [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("entry", corpus(), ids=lambda entry: entry["name"])
def test_every_reply_of_the_corpus_has_the_fate_it_had(entry):
    content = from_bytes(base64.b64decode(entry["reply"]))
    assert (None if content is None else through_the_gate(content)) == entry["fate"]


def test_the_corpus_has_a_reply_for_every_reason_the_fuzzer_met():
    fates = [entry["fate"] for entry in corpus() if entry["fate"]]
    for part in ("loss", "balanced", "size", "update", "review"):
        assert {fate[part] == "used" for fate in fates} == {True, False}, part
    assert len({reason for fate in fates for reason in fate.values()}) >= 25


# -- random ones ---------------------------------------------------------------------------------------------------


@QUICK
@given(replies())
def test_no_changed_reply_does_more_than_be_used_or_refused(content):
    through_the_gate(content)


@QUICK
@given(travelled())
def test_no_bytes_on_the_wire_do_more_than_be_used_or_refused(content):
    if content is not None:
        through_the_gate(content)


def round_with(contents):
    """A round of peer review with three honest silos and one for each of these replies."""

    def sends(content):
        return lambda received: content

    grid = ScriptedGrid([*[sends(valid()) for _ in range(3)], *map(sends, contents)])
    events = []
    channel = Channel(
        grid, Roster(), Matrix(), ConfigRecord({"lr": 0.1}), 5.0, "loss", 0.0, events.append, 3, sizes=True
    )
    exchanges = RoundExchanges(channel, 1)
    with stopped_clock(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exchanges.first(MODEL, reviewed=True)
    return exchanges, events


HONEST = np.concatenate([(np.float32(-1) * np.ones(7, np.float32))])


def holds_of(exchanges, contents):
    """What must hold of any such round."""
    replies, outcome = exchanges.replies, exchanges.outcomes[0]
    assert outcome.asked == 3 + len(contents)
    assert np.isfinite(replies.updates).all() and np.isfinite(replies.buffers).all()
    assert np.isfinite(replies.losses).all() and np.isfinite(replies.norms).all() and np.isfinite(replies.sizes).all()
    voiced = np.isfinite(replies.review_norms)
    assert np.isfinite(replies.reviews[voiced]).all() and np.isfinite(replies.balanced_losses[voiced]).all()
    nodes = [silo.node_id for silo in replies.silos]
    for node in (2, 3, 4):  # whoever else sends what: an honest row is an honest row
        row = nodes.index(node)
        np.testing.assert_array_equal(replies.updates[row], HONEST)
        assert replies.losses[row] == 0.7 and replies.sizes[row] == 10 and voiced[row]
        np.testing.assert_array_equal(replies.reviews[row], np.array([0.5] * 6 + [-1.0], np.float16))


@settings(derandomize=True, deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(st.lists(replies(), min_size=1, max_size=4))
def test_hostile_replies_beside_honest_ones_cost_these_nothing(contents):
    exchanges, _ = round_with(contents)
    holds_of(exchanges, contents)


@pytest.mark.slow  # three to six minutes: 10,000 replies, four to a round in a part of them
def test_ten_thousand_hostile_replies_end_no_round_and_write_in_no_other_row():
    """Drawn from a fixed seed: 5,000 changed replies, 3,000 changed on the wire, 2,000 in rounds beside honest ones."""
    count, fates = Counter(), Counter()
    options = dict(deadline=None, database=None, suppress_health_check=list(HealthCheck))

    def meet(content):
        count["replies"] += 1
        if content is None:
            fates["Flower refuses it"] += 1
            return
        found = through_the_gate(content)
        fates.update(f"{part}: {'used' if fate == 'used' else 'refused'}" for part, fate in found.items())

    @seed(17)
    @settings(max_examples=5000, **options)
    @given(replies())
    def changed(content):
        meet(content)

    @seed(18)
    @settings(max_examples=3000, **options)
    @given(travelled())
    def on_the_wire(content):
        meet(content)

    @seed(19)
    @settings(max_examples=500, **options)
    @given(st.lists(replies(), min_size=4, max_size=4))
    def beside_honest_ones(contents):
        count["replies"] += len(contents)
        exchanges, _ = round_with(contents)
        holds_of(exchanges, contents)

    for drawn in (changed, on_the_wire, beside_honest_ones):
        drawn()
    print(count, sorted(fates.items()))
    assert count["replies"] >= 10_000
    for part in ("update", "review", "loss"):  # neither all junk nor all honest: both ways were met often
        assert min(fates[f"{part}: used"], fates[f"{part}: refused"]) > 500


def test_the_honest_gradient_is_what_the_rounds_above_expect():
    assert through_the_gate(valid())["review"] == "used" and GRADIENT["scale"] == -1
