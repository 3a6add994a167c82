"""The events as they stand in a file: every kind comes back as it went, and what release 0.1 wrote is still read."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from fedlaw_flwr.config.settings import current_names, every_setting
from fedlaw_flwr.events import reference
from fedlaw_flwr.events.folder import EVENTS, read_events
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import (
    KINDS,
    Evaluated,
    EvaluatedBySilos,
    ExchangeTotals,
    Joined,
    NoReply,
    NoReview,
    NotAdmitted,
    Pardoned,
    Removed,
    ReplyRejected,
    RoundEnded,
    RunEnded,
    RunResumed,
    RunStarted,
    SitsOut,
    TaskNotStated,
    Warned,
    current_settings,
    from_dict,
)

ROOT = Path(__file__).parents[2]
EXCHANGE = ExchangeTotals(answered=2, rejected=1, silent=1, bytes_down=4000, bytes_up=1600, seconds=1.5)
WHERE = {"round": 3, "exchange": 2, "silo": "silo 2"}
WHOLE = [
    RunStarted(settings={"task": "digits", "beta": 0.01}, attackers={"silo 2": "lie"}, own_task="tabular"),
    Warned(reason="attackers own the whole group of label 2"),
    ReplyRejected(**WHERE, reason="the loss is nan"),
    NoReply(**WHERE, reason="no answer within 600 s"),
    NoReview(round=3, silo="silo 2", reason="it sends no review"),
    NotAdmitted(round=1, silo="silo 2", reason="column 'age' is missing"),
    TaskNotStated(round=1, silo="silo 2", reason="it does not say what it learns"),
    SitsOut(round=3, silo="silo 2", strikes=3, reason="no answer within 600 s", identified=True),
    Pardoned(round=4, silo="silo 2"),
    Removed(round=4, silo="silo 2", n=7, b=2),
    Joined(round=4, silo="silo 8"),
    RoundEnded(
        round=3,
        skipped=False,
        reason=None,
        seconds=4.5,
        bytes_down=8000,
        bytes_up=3200,
        exchanges=(EXCHANGE, EXCHANGE),
        phase="learning",
        silos=("silo 0", "silo 1", "silo 2"),
        asked=("silo 0", "silo 1", "silo 2", "silo 3"),
        losses=(0.5, 0.25, 0.125),
        norms=(1.0, 2.0, 3.0),
        clip=2.5,
        weights=(0.5, 0.5, 0.0),
        kept=("silo 0", "silo 1"),
        clusters=(("silo 1", "silo 2"), ()),
        conflicts=("silo 2",),
        scored=("silo 0", "silo 1"),
        trial_losses=(0.4, 0.2),
        losses_raised=("silo 1",),
        alignment=(0.01, -0.02),
        scores=(0.3, 0.2),
        unscored=("silo 2",),
        reviewers=("silo 0", "silo 1"),
        vouching=("silo 0", "silo 1"),
        support=((None, 0.25, None), (0.5, None, None), (-0.125, -0.5, None)),
        approval=(0.25, 0.5, -0.3125),
        assent=(0.5, 0.25, -0.125),
        balanced_losses=(0.6, 0.3, None),
    ),
    Evaluated(round=3, metrics={"accuracy": 0.5, "validation-accuracy": 0.4}, by_class=(0.5, None, 0.25)),
    EvaluatedBySilos(
        round=3,
        metrics={"auc": 0.9},
        by_silo={"auc": {"silo 0": 0.8, "silo 1": 1.0}},
        means={"auc": 0.9},
        medians={"auc": 0.9},
        spreads={"auc": 0.1},
        weights={"silo 0": 0.5, "silo 1": 0.5},
        by_class=(0.5, None),
        by_class_of={"silo 0": (0.5, None), "silo 1": (None, None)},
    ),
    RunResumed(
        round=3,
        checkpoint=2,
        abandoned_round=3,
        abandoned=('{"kind": "warning", "rea',),
        refused=("round-000003.json: it is torn",),
        changed={"num-rounds": 9},
    ),
    RunEnded(status="failed", reason="ValueError: no data"),
]
"""One event of each kind, with every value it can have; a round's reason and its weights never stand together."""


@pytest.mark.parametrize("event", WHOLE, ids=lambda event: event.kind)
def test_every_kind_comes_back_from_its_line_as_it_was(event):
    line = json.dumps(event.to_dict())
    assert from_dict(json.loads(line)) == event


def test_one_event_of_every_kind_is_tried_with_every_name():
    assert [type(event) for event in WHOLE] == list(KINDS.values())
    named = {type(event): set(event.to_dict()) - {"kind"} for event in WHOLE}
    named[RoundEnded].add("reason")
    for kind, names in named.items():
        assert names == {one.name.replace("_", "-") for one in fields(kind)}


def test_what_is_not_known_is_left_out_and_nothing_but_that():
    line = RoundEnded(round=1, skipped=True, reason="too few", scores=()).to_dict()
    assert line["scores"] == [] and line["reason"] == "too few" and line["skipped"] is True
    assert not {"weights", "kept", "clip", "phase", "clusters", "scored"} & set(line)


SINCE = ("asked", "reviewers", "vouching", "support", "approval", "assent", "balanced_losses")
"""What version 1 had none of."""
OLD_EXCHANGE = {"answered": 2, "rejected": 1, "silent": 1, "bytes-down": 4000, "bytes-up": 1600, "seconds": 1.5}
OF_VERSION_1 = [
    (
        {"kind": "run", "settings": {"task": "digits", "beta": 0.01, "memory": 0.5}, "attackers": {"silo 2": "lie"}},
        RunStarted(settings={"task": "digits", "beta": 0.01, "score-decay": 0.5}, attackers={"silo 2": "lie"}),
    ),
    ({"kind": "warning", "reason": "a word"}, Warned(reason="a word")),
    (
        {"kind": "quarantine", **WHERE, "reason": "the loss is nan"},
        ReplyRejected(**WHERE, reason="the loss is nan"),
    ),
    ({"kind": "silent", **WHERE, "reason": "no answer"}, NoReply(**WHERE, reason="no answer")),
    (
        {"kind": "turned-away", "round": 1, "silo": "silo 2", "reason": "feet"},
        NotAdmitted(round=1, silo="silo 2", reason="feet"),
    ),
    (
        {"kind": "unseen", "round": 1, "silo": "silo 2", "reason": "nothing said"},
        TaskNotStated(round=1, silo="silo 2", reason="nothing said"),
    ),
    (
        {
            "kind": "round",
            "round": 3,
            "held": False,
            "seconds": 4.5,
            "bytes-down": 8000,
            "bytes-up": 3200,
            "exchanges": [OLD_EXCHANGE, OLD_EXCHANGE],
            "phase": "learned",
            "silos": ["silo 0", "silo 1", "silo 2"],
            "losses": [0.5, 0.25, 0.125],
            "norms": [1.0, 2.0, 3.0],
            "clip": 2.5,
            "weights": [0.5, 0.5, 0.0],
            "kept": ["silo 0", "silo 1"],
            "coalitions": [["silo 1", "silo 2"], []],
            "turned": ["silo 2"],
            "scored": ["silo 0", "silo 1"],
            "trial-losses": [0.4, 0.2],
            "losses-raised": ["silo 1"],
            "alignment": [0.01, -0.02],
            "scores": [0.3, 0.2],
            "dodged": ["silo 2"],
        },
        replace(next(one for one in WHOLE if isinstance(one, RoundEnded)), **dict.fromkeys(SINCE)),
    ),
    (
        {"kind": "round", "round": 4, "held": True, "reason": "too few", "phase": "held"},
        RoundEnded(round=4, skipped=True, reason="too few", phase="frozen"),
    ),
    (
        {"kind": "round", "round": 5, "held": False, "phase": "rule", "silos": ["silo 0"], "weights": [1.0]},
        RoundEnded(round=5, skipped=False, phase="rule", silos=("silo 0",), weights=(1.0,)),
    ),
    (
        {"kind": "evaluate", "round": 3, "accuracy": 0.5, "validation-accuracy": 0.4},
        Evaluated(round=3, metrics={"accuracy": 0.5, "validation-accuracy": 0.4}),
    ),
    (
        {"kind": "silo-evaluation", "round": 3, "auc": 0.9, "by-silo": {"auc": {"silo 0": 0.8, "silo 1": 1.0}}},
        EvaluatedBySilos(round=3, metrics={"auc": 0.9}, by_silo={"auc": {"silo 0": 0.8, "silo 1": 1.0}}),
    ),
    ({"kind": "end", "status": "failed", "reason": "no"}, RunEnded(status="failed", reason="no")),
]
"""A line of each kind as release 0.1 wrote it, and what it says today."""


@pytest.mark.parametrize(("line", "event"), OF_VERSION_1, ids=lambda value: getattr(value, "kind", ""))
def test_a_line_of_version_1_says_what_it_said(line, event):
    assert from_dict(line) == event


def test_a_line_of_version_1_of_every_kind_is_tried():
    since = {NoReview, SitsOut, Pardoned, Removed, Joined, RunResumed}
    assert {type(event) for _, event in OF_VERSION_1} == set(KINDS.values()) - since


def test_the_settings_of_a_version_1_run_have_the_names_they_have_in_a_configuration_today():
    old = {one.formerly: one.default for one in every_setting() if one.formerly}
    assert len(old) == 5 and current_settings(old) == current_names(old)


def test_unknown_kinds_and_names_are_left_out_when_a_folder_is_read(tmp_path):
    lines = [
        {"kind": "run", "version": 2, "settings": {}, "attackers": {}, "colour": "blue"},
        {"kind": "of a later release", "round": 1},
        {"kind": "end", "status": "completed"},
    ]
    (tmp_path / EVENTS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(read_events(tmp_path)) == [RunStarted(settings={}), RunEnded(status="completed")]


def test_a_line_that_lacks_what_its_kind_must_say_is_refused_with_what_is_missing():
    with pytest.raises(ValueError, match=r"an event of kind 'rejected' is not whole: .*'exchange'"):
        from_dict({"kind": "rejected", "round": 1, "silo": "silo 0", "reason": "no"})


def test_a_run_of_version_1_that_failed_before_its_first_event_has_its_settings_under_todays_names(tmp_path):
    (tmp_path / EVENTS).write_text('{"kind": "end", "status": "failed", "reason": "no data"}\n')
    (tmp_path / "settings.json").write_text('{"task": "mnist", "memory": 0.5}')
    run = Run.read(tmp_path)
    assert run.settings == {"task": "mnist", "score-decay": 0.5}
    assert not run.is_started and run.end.reason == "no data"


def test_the_committed_page_is_the_one_made_from_the_docstrings():
    page = (ROOT / "docs" / "reference" / "events.md").read_text(encoding="utf-8")
    assert page == reference.page(), "python -m fedlaw_flwr.events.reference > docs/reference/events.md"


@pytest.mark.parametrize("owner", [*KINDS.values(), ExchangeTotals], ids=lambda owner: owner.__name__)
def test_every_name_of_an_event_is_described_on_the_page(owner):
    assert set(reference.described(owner)) == {one.name for one in fields(owner)}
