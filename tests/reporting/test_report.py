"""The report of a run: who is named, why a silo has no weight, what it cost, and that no name can break the page."""

import base64
import gzip
import hashlib
import io
import json
import re
import shlex
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console
from scripted_runs import AGREES, ALIKE, BETA, HOSTILE, Scripted, but, hostile, large, reviewed

from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.config.settings import Settings, parsed
from fedlaw_flwr.core.losses import raise_low_losses
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import RunStarted
from fedlaw_flwr.events.verdict import verdict
from fedlaw_flwr.reporting.explanations import by_most_rounds, score_of
from fedlaw_flwr.reporting.figures import comparison_picture, run_labels, weight_map, weights_picture
from fedlaw_flwr.reporting.in_short import told_by_reviewers
from fedlaw_flwr.reporting.report import page_data, page_of, repeat, report_text, spans, write_report
from fedlaw_flwr.reporting.terminal import verdict_table
from fedlaw_flwr.simulation.in_process import run_in_process


class Elements(HTMLParser):
    """What a browser would make of a page: its elements, links and text."""

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.scripts, self.policies, self.handlers, self.said = set(), [], [], [], [], []
        self._skips = False

    @classmethod
    def of(cls, text):
        found = cls()
        found.feed(text)
        return found

    @property
    def text(self):
        return "".join(self.said)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.add(tag)
        self._skips = tag in ("script", "style")
        self.handlers += [name for name in given if name.startswith("on")]
        self.links += [given[name] for name in ("href", "src") if name in given]
        if tag == "script":
            self.scripts.append((given.get("id", ""), given.get("type", "")))
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policies.append(given["content"])

    def handle_endtag(self, tag):
        self._skips = False

    def handle_data(self, data):
        if not self._skips:
            self.said.append(data)


def unpacked(path):
    """The numbers of a page's charts."""
    packed = re.search(r'id="data">([^<]+)<', path.read_text())[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


# Why a silo has no weight


def test_an_update_against_the_others_is_named_with_both_numbers(tmp_path):
    run = Scripted(tmp_path, attackers=["silo 3"]).learned(but(AGREES, silo_3=-0.031), ALIKE).end()
    why = run.row("silo 3").why
    assert "its update points against the others: alignment -0.031 against +0.012" in why
    assert why.startswith("Round 1:")


def test_a_loss_far_above_the_others_is_named_with_both_numbers(tmp_path):
    run = Scripted(tmp_path).learned(but(AGREES, silo_3=0.011), but(ALIKE, silo_3=3.1)).end()
    assert "its loss is far above the others': 3.1 against 0.4" in run.row("silo 3").why


def test_the_term_that_costs_more_score_decides_not_the_one_that_looks_larger(tmp_path):
    # beta 0.01 makes a loss 2.7 higher cost 0.027, less than the 0.032 the alignment costs.
    run = Scripted(tmp_path).learned(but(AGREES, silo_3=-0.02), but(ALIKE, silo_3=3.1)).end()
    found = score_of(Run.read(tmp_path), Run.read(tmp_path).rounds[0], "silo 3")
    assert found.decided == "alignment"
    assert found.score == pytest.approx(1 / 6 - 0.02 - 0.031)
    assert "alignment -0.02 against +0.012 (loss 3.1 against 0.4)" in run.row("silo 3").why


def test_the_score_is_taken_apart_into_the_terms_it_was_made_of(tmp_path):
    Scripted(tmp_path).learned(AGREES, ALIKE).learned(but(AGREES, silo_1=0.02), but(ALIKE, silo_2=0.9)).end()
    run = Run.read(tmp_path)
    for silo, weight in run.weights[1].items():
        found = score_of(run, run.rounds[1], silo)
        assert found.before[0] == pytest.approx(weight, abs=1e-9)
        assert found.score == pytest.approx(found.before[0] + found.alignment[0] - BETA * found.loss[0])


def test_a_silo_that_only_lacks_the_weight_it_lost_is_told_when_and_why_it_lost_it(tmp_path):
    run = Scripted(tmp_path).learned(but(AGREES, silo_3=-0.031), ALIKE).learned(AGREES, ALIKE).end()
    why = run.row("silo 3").why
    assert why.startswith("No weight since round 1: its update points against the others: alignment -0.031")
    assert "Round 2: it came with weight 0 against" in why


def test_where_scores_decay_the_report_speaks_of_earlier_rounds_and_of_no_weight(tmp_path):
    run = Scripted(tmp_path, score_decay=1.0).learned(but(AGREES, silo_3=-0.031), ALIKE).learned(AGREES, ALIKE).end()
    assert "Round 2: earlier rounds gave it 0 against" in run.row("silo 3").why


def test_evidence_of_the_last_weight_round_goes_before_an_old_loss_of_weight(tmp_path):
    run = Scripted(tmp_path).learned(but(AGREES, silo_3=-0.031), ALIKE)
    run.learned(AGREES, but(ALIKE, silo_3=30.0)).end()
    assert run.row("silo 3").why.startswith("Round 2: its loss is far above the others': 30 against 0.4")


def test_rounds_that_only_use_weights_are_explained_by_the_last_that_learned_them(tmp_path):
    run = Scripted(tmp_path).learned(but(AGREES, silo_3=-0.031), ALIKE).frozen().frozen().end()
    assert run.row("silo 3").why.startswith("Round 1: its update points against")
    assert "Weights were last learned in round 1" in run.page().legend


def test_a_refresh_replaces_the_explanation(tmp_path):
    run = Scripted(tmp_path).learned(but(AGREES, silo_3=-0.031), ALIKE).frozen()
    run.learned(AGREES, but(ALIKE, silo_3=30.0)).frozen().end()
    assert run.row("silo 3").why.startswith("Round 3: its loss")


def test_bsum_is_explained_by_losses_alone(tmp_path):
    run = Scripted(tmp_path, variant="bsum").learned(but(AGREES, silo_3=-5.0), [0.1, 0.2, 0.3, 0.4, 0.9, 0.8]).end()
    assert run.row("silo 3").why == ""
    assert "its loss 0.9 is above 0.4, the largest that got weight" in run.row("silo 4").why


def test_of_equal_losses_bsum_says_that_the_first_came_first(tmp_path):
    run = Scripted(tmp_path, variant="bsum").learned(AGREES, ALIKE).end()
    assert "its loss 0.4 equals the largest that got weight" in run.row("silo 5").why


def test_equal_scores_are_not_blamed_on_a_term(tmp_path):
    run = Scripted(tmp_path).learned(AGREES, ALIKE).end()
    assert run.row("silo 5").weight == 0.0
    assert "no term of it stands out" in run.row("silo 5").why


def test_a_loss_that_was_raised_counts_as_what_it_was_raised_to(tmp_path):
    losses = [2.0, 2.1, 1.9, 2.0, 2.05, 1.95, 2.0, 0.01]
    run = Scripted(tmp_path, silos=8).learned([0.012] * 7 + [-0.5], losses).end()
    found = score_of(Run.read(tmp_path), Run.read(tmp_path).rounds[0], "silo 7")
    assert found.loss[0] == pytest.approx(raise_low_losses(np.array(losses))[0][7])
    assert found.before[0] == pytest.approx(1 / 8)
    assert run.row("silo 7").raised == 1


def test_a_score_beyond_all_numbers_still_has_an_explanation(tmp_path):
    run = Scripted(tmp_path).learned(but(AGREES, silo_3=-1e30), ALIKE).end()
    assert "its update points against the others: alignment -1e+30" in run.row("silo 3").why


def test_an_unscored_silo_is_told_so_with_the_gates_reason(tmp_path):
    run = Scripted(tmp_path, max_byzantine=1).gate("silo 3", "the loss is nan", exchange=2)
    run.learned(AGREES, ALIKE, unscored=["silo 3"]).frozen().end()
    assert run.row("silo 3").why == (
        "In round 1 it answered the model and not the trial model (rejected: the loss is nan), so it has no score and "
        "lost its weight."
    )


def test_to_be_unscored_in_a_skipped_round_explains_the_weight_that_is_missing_later(tmp_path):
    run = Scripted(tmp_path).learned(AGREES, ALIKE)
    run.gate("silo 0", "no answer within 600 s", kind="silent", exchange=2).skipped("too few", unscored=["silo 0"])
    why = run.learned(but(AGREES, silo_0=0.0119), ALIKE).end().row("silo 0").why
    assert why.startswith("In round 2 it answered the model and not the trial model (silent: no answer within 600 s)")


def test_a_silo_absent_when_weights_were_last_learned_is_told_why_it_carries_none(tmp_path):
    run = Scripted(tmp_path, max_byzantine=1).gate("silo 3", "array 'w' is missing")
    run.w[3] = 0.0
    run.learned(AGREES, ALIKE, absent=["silo 3"]).frozen().end()
    why = run.row("silo 3").why
    assert why.startswith("Rejected in round 1, exchange 1: array 'w' is missing. That round was the last to learn")


def test_a_silo_that_is_not_there_at_the_end_is_told_from_one_that_was_excluded(tmp_path):
    run = (
        Scripted(tmp_path, max_byzantine=1)
        .learned(AGREES, ALIKE)
        .gate("silo 3", "no answer within 600 s", kind="silent")
    )
    run.frozen(absent=["silo 3", "silo 4"]).end()
    assert run.row("silo 3").outcome == run.row("silo 4").outcome == "absent"
    assert run.row("silo 3").why == "Silent in round 2, exchange 1: no answer within 600 s; last used in round 1."
    assert run.row("silo 4").why == "Not online in round 2; last used in round 1."
    assert run.row("silo 3").weight is None


def test_a_silo_rejected_in_every_round_was_never_used(tmp_path):
    run = Scripted(tmp_path, max_byzantine=1, attackers=["silo 3"])
    for _ in range(2):
        run.gate("silo 3", "the loss is nan").learned(AGREES, ALIKE, absent=["silo 3"])
    row = run.end().row("silo 3")
    assert row.why == "Rejected in round 2, exchange 1: the loss is nan; never used in any round."
    assert (row.rejected, row.first_without, row.rounds_without, row.median_loss) == (2, 1, 2, None)


def test_an_attacker_that_got_through_is_explained_too(tmp_path):
    run = Scripted(tmp_path, attackers=["silo 0"]).learned(but(AGREES, silo_0=0.05), ALIKE).end()
    row = run.row("silo 0")
    assert (row.outcome, row.is_loss) == ("attacker got through", True)
    assert "ranks 1 of 6: alignment +0.05 against +0.012" in row.why


def test_a_rule_that_leaves_silos_out_is_quoted_with_how_often_it_did(tmp_path):
    run = Scripted(tmp_path, attackers=["silo 5"], strategy="fedavg")
    run.by_rule(kept=run.silos, weights=[1 / 6] * 6)
    run.by_rule(kept=run.silos[:5], weights=[0.2] * 5 + [0.0]).end()
    assert run.row("silo 5").why == "Left out by fedavg in round 2, as in 1 of its 2 rounds."
    assert run.row("silo 5").outcome == "attacker caught"


def test_a_rule_that_selects_without_weights_still_says_whom_it_left_out(tmp_path):
    run = Scripted(tmp_path, attackers=["silo 5"], strategy="fedavg").by_rule(kept=["silo 1", "silo 5"]).end()
    page = run.page()
    assert page.story[1].startswith("The one attacker got through: silo 5; 4 of 5 honest silos had no part in the step")
    assert not page.has_weights and run.row("silo 0").outcome == "honest, excluded"


def test_a_rule_without_weights_judges_nobody(tmp_path):
    run = Scripted(tmp_path, attackers=["silo 5"], strategy="cw_median").by_rule().end()
    page = run.page()
    assert page.story[1] == "cw_median gives silos no weights, so nobody is caught or wrongly excluded by name."
    assert {row.outcome for row in page.silos} == {""} and {row.why for row in page.silos} == {""}


# What happened


def test_losses_are_named_before_successes(tmp_path):
    run = Scripted(tmp_path, attackers=["silo 0", "silo 5"], num_rounds=1)
    run.learned(but(AGREES, silo_5=-0.1, silo_3=-0.05), ALIKE).end()
    what, who, accuracy = run.page().story
    assert what == (
        "6 silos learned digits together for 1 round with FedLAW; 2 of them attacked (inverse_gradient by 2)."
    )
    assert re.match(
        r"1 of 2 attackers got through: silo 0 \(together [0-9.]+ % of the weight\); "
        r"1 of 4 honest silos ended with no weight: silo 3 .*; "
        r"1 of 2 attackers ended with no weight \(since round 1\): silo 5\.$",
        who,
    )
    assert accuracy == "Accuracy on the test set rose from 10.0 % in round 0 to 30.0 % in round 1."
    assert [row.name for row in run.page().silos[:2]] == ["silo 0", "silo 3"]


def test_of_two_classes_the_report_tells_the_area_under_the_curve_too(tmp_path):
    run = Scripted(tmp_path).learned(AGREES, ALIKE).accuracy(0.9, auc=0.9712).end()
    assert run.page().story[-1].endswith("to 90.0 % in round 1. The area under the ROC curve was 0.971 at the end.")


def test_a_run_without_losses_says_so(tmp_path):
    run = Scripted(tmp_path, attackers=["silo 4", "silo 5"])
    run.learned(but(AGREES, silo_4=-0.1, silo_5=-0.1), ALIKE).end()
    assert run.page().story[1] == (
        "All 2 attackers ended with no weight (since round 1): silo 4, silo 5; no honest silo was excluded."
    )


def test_without_attackers_the_reader_learns_how_many_silos_must_go_empty(tmp_path):
    run = Scripted(tmp_path).learned(but(AGREES, silo_4=0.0, silo_5=0.0), ALIKE).end()
    page = run.page()
    assert "none of them was made to attack" in page.story[0]
    assert page.story[1].startswith(
        "2 of 6 silos ended with no weight: silo 4, silo 5 (s = 4 let at most 4 of the 6 scored"
    )
    assert not page.attack_known and not any(row.is_loss for row in page.silos)


def test_silos_that_s_did_not_force_out_are_not_excused_by_it(tmp_path):
    run = Scripted(tmp_path, t=1.0).learned(but(AGREES, silo_3=-0.5, silo_4=-0.5, silo_5=-0.5), ALIKE).end()
    assert (
        "3 of 6 silos ended with no weight: silo 3, silo 4, silo 5 (s = 4 would have let 1 more" in run.page().story[1]
    )


def test_an_accuracy_that_fell_or_passed_its_best_is_not_hidden(tmp_path):
    fell = Scripted(tmp_path / "fell").learned(AGREES, ALIKE).accuracy(0.05).end()
    assert "fell from 10.0 % in round 0 to 5.0 % in round 1, below its best of 10.0 %" in fell.page().story[2]
    past = Scripted(tmp_path / "past").learned(AGREES, ALIKE).frozen().accuracy(0.2).end()
    assert "to 20.0 % in round 2, below its best of 30.0 % in round 1" in past.page().story[2]


def test_the_report_and_the_verdict_count_the_same(tmp_path):
    run = Scripted(tmp_path, silos=8, attackers=["silo 0", "silo 5", "silo 6", "silo 7"], max_byzantine=2)
    run.learned([0.012, 0.012, 0.012, -0.3, 0.01, -0.2, 0.02, 0.0], [0.4] * 8, absent=["silo 7"]).end()
    found, rows = verdict(Run.read(tmp_path)), run.page().silos
    outcomes = [row.outcome for row in rows]
    assert outcomes.count("attacker caught") == found.caught  # one that was merely absent is not caught
    assert outcomes.count("attacker, absent") == 1
    assert outcomes.count("honest, excluded") == found.wrongly_excluded


def test_a_rejected_attacker_is_caught_in_the_terminals_verdict_and_in_the_report_alike(tmp_path):
    run = Scripted(tmp_path, silos=8, attackers=["silo 5", "silo 6", "silo 7"], max_byzantine=1)
    run.gate("silo 5", "the loss is nan").gate("silo 1", "array 'w' is missing")
    run.gate("silo 6", "no answer within 600 s", kind="silent")
    run.learned([0.012] * 8, [0.4] * 7 + [30.0], absent=["silo 1", "silo 5", "silo 6"]).end()
    found, page = verdict(Run.read(tmp_path)), run.page()
    outcomes = {row.name: row.outcome for row in page.silos}
    assert {name: outcome for name, outcome in outcomes.items() if outcome} == {
        "silo 1": "honest, excluded",  # rejected
        "silo 5": "attacker caught",  # rejected
        "silo 6": "attacker, absent",  # silent
        "silo 7": "attacker caught",  # no weight
    }
    counts = [list(outcomes.values()).count(outcome) for outcome in ("attacker caught", "honest, excluded")]
    assert counts == [found.caught, found.wrongly_excluded] == [2, 1]
    assert "1 of 5 honest silos ended with no weight: silo 1" in page.story[1]
    assert "2 of 3 attackers ended with no weight (since round 1): silo 5, silo 7" in page.story[1]
    assert "1 of 8 silos gave no usable reply in round 1: silo 6" in page.story[1]
    table = Console(width=100, record=True, file=io.StringIO())
    table.print(verdict_table([found], "run"))
    shown = table.export_text()
    assert re.search(r"attackers caught +│ +2 of 3 ", shown) and re.search(r"wrongly excluded +│ +1 of 5 ", shown)


def test_a_failed_run_says_so_first_and_shows_what_there_was(tmp_path):
    run = Scripted(tmp_path).learned(AGREES, ALIKE).end("failed", reason="TimeoutError: 3 silos are online")
    assert run.page().alarm.startswith("The run failed after round 1: TimeoutError: 3 silos are online.")
    assert "1 of 3 rounds" in run.page().story[0]
    assert "The run failed after round 1" in write_report(tmp_path).read_text()


def test_a_run_that_failed_before_it_started_has_a_report(tmp_path):
    run = Scripted(tmp_path, attackers=["silo 5"], started=False).end("failed", reason="ValueError: no data")
    page = run.page()
    assert page.alarm.startswith("The run failed before its first round was over: ValueError: no data.")
    assert "the attack was to be inverse_gradient" in page.story[0]
    assert (page.silos, page.costs, page.skipped) == ([], [], [])
    assert "No round was completed." in write_report(tmp_path).read_text()


def test_a_run_that_has_not_ended_is_not_called_finished(tmp_path):
    assert "has not ended, or was killed, after round 1" in Scripted(tmp_path).learned(AGREES, ALIKE).page().alarm


def test_a_run_whose_every_round_was_skipped_gives_nobody_weight(tmp_path):
    page = Scripted(tmp_path).skipped("2 silos gave usable replies and 6 are needed").skipped("again").end().page()
    assert page.legend == "No round moved the model, so no silo has been given any weight."
    assert page.skipped == [("1", "2 silos gave usable replies and 6 are needed"), ("2", "again")]


def test_a_folder_without_a_run_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no run here \(events.jsonl is missing\)"):
        write_report(tmp_path)


# What was counted


def test_clipped_and_median_losses_are_counted_over_rounds(tmp_path):
    run = Scripted(tmp_path).learned(AGREES, ALIKE).frozen().end()  # norms 1 to 6, clipped above 5.5; losses 0.5 up
    assert [run.row(f"silo {number}").clipped for number in range(6)] == [0, 0, 0, 0, 0, 2]
    assert run.row("silo 3").median_loss == 3.5


def test_weight_that_comes_back_leaves_its_empty_rounds_counted(tmp_path):
    run = Scripted(tmp_path).learned(but(AGREES, silo_3=-0.05), ALIKE).learned(but(AGREES, silo_3=0.9), ALIKE).end()
    row = run.row("silo 3")
    assert row.weight > 0.1 and (row.first_without, row.rounds_without, row.why) == (1, 1, "")


def test_what_the_gate_rejected_is_one_row_for_one_silo_and_reason(tmp_path):
    run = Scripted(tmp_path, max_byzantine=1)
    for _ in range(3):
        run.gate("silo 3", "the loss is nan").learned(AGREES, ALIKE, absent=["silo 3"])
    run.gate("silo 3", "no answer within 600 s", kind="silent", exchange=2).frozen().end()
    rows = [(row.rounds, row.times, row.exchange, row.what, row.reason) for row in run.page().gate]
    assert rows == [
        ("1-3", 3, 1, "rejected", "the loss is nan"),
        ("4", 1, 2, "silent", "no answer within 600 s"),
    ]
    assert spans([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"


def test_a_silo_without_a_valid_review_is_one_row_with_its_rounds_and_reason(tmp_path):
    run = Scripted(tmp_path)
    for _ in range(3):
        run.write(kind="no-review", round=run.round + 1, silo="silo 2", reason="it sends no review")
        run.learned(AGREES, ALIKE)
    (row,) = run.end().page().gate
    assert (row.rounds, row.times, row.silo, row.what, row.reason) == (
        "1-3",
        3,
        "silo 2",
        "no review",
        "it sends no review",
    )
    assert "it sends no review" in report_text(run.folder)


def test_silos_that_lost_their_weight_are_shown_with_how_the_model_serves_them(tmp_path):
    run = Scripted(tmp_path).learned(but(AGREES, silo_3=-0.05), ALIKE)
    accuracy = {f"silo {i}": 0.9 for i in range(6)} | {"silo 3": 0.2}
    run.write(
        kind="silo-evaluation",
        round=1,
        metrics={"accuracy": 0.9},
        **{"by-silo": {"accuracy": accuracy}, "weights": dict.fromkeys(accuracy, 0.2) | {"silo 3": 0.0}},
        **{"by-class": [0.9, 0.1, None], "by-class-of": {"silo 3": [None, 0.05, None], "silo 0": [0.9, 0.5, None]}},
    ).end()
    page = run.page()
    name, values = page.served[0]
    said = dict(zip(page.served_titles, values, strict=True))
    assert name == "silo 3" and said["Weight"] == "0.0000"
    assert said["Accuracy on its own examples"] == "0.200" and said["Accuracy of all, by weight"] == "0.900"
    assert said["Worst class on its own examples"] == "class 1: 0.050"
    assert "Does the model serve the silos that count for little or nothing?" in report_text(run.folder)


def test_a_silo_with_little_weight_is_shown_too_and_one_known_to_attack_is_not(tmp_path):
    run = Scripted(tmp_path, silos=4, attackers=["silo 3"], max_byzantine=1)
    run._round(range(4), 1, phase="frozen", weights=[0.45, 0.45, 0.1, 0.0])
    (row,) = run.end().page().served
    assert row[0] == "silo 2" and row[1][0] == "0.1000"


def test_classes_are_listed_from_the_least_accurate_on(tmp_path):
    run = Scripted(tmp_path).learned(AGREES, ALIKE)
    run.write(kind="evaluation", round=1, metrics={"accuracy": 0.6}, **{"by-class": [0.9, 0.3, None, 0.6]}).end()
    page = run.page()
    assert page.classes == [
        ("class 1", ["0.300"]),
        ("class 3", ["0.600"]),
        ("class 0", ["0.900"]),
        ("class 2", ["no examples"]),
    ]
    assert "Class by class" in report_text(run.folder)


def test_classes_as_silos_tell_them_have_those_left_out_beside_them(tmp_path):
    run = Scripted(tmp_path, started=False)
    run.write(kind="run", settings=run.settings.as_config(), attackers={}, version=2)
    run._round(range(6), 1, phase="frozen", weights=[0.2, 0.2, 0.2, 0.0, 0.2, 0.2])
    # The run's own evaluations are the server's: this one has none, so that the silos' count.
    lines = [line for line in (run.folder / "events.jsonl").read_text().splitlines() if '"evaluation"' not in line]
    (run.folder / "events.jsonl").write_text("\n".join(lines) + "\n")
    own = {"silo 3": [None, 0.05], "silo 0": [0.9, 0.5]}
    run.write(
        kind="silo-evaluation",
        round=1,
        metrics={"accuracy": 0.8},
        **{
            "by-silo": {"accuracy": {"silo 0": 0.8}},
            "weights": {"silo 0": 0.2},
            "by-class": [0.9, 0.5],
            "by-class-of": own,
        },
    ).end()
    page = run.page()
    assert page.classes == [("class 1", ["0.500", "1", "0.050"]), ("class 0", ["0.900", "0", ""])]
    assert page.class_titles[0] == "Accuracy by the silos, as they say, each counted by its weight"


def test_bytes_and_seconds_add_up_by_exchange(tmp_path):
    first, second, own, total = Scripted(tmp_path).learned(AGREES, ALIKE).frozen().end().page().costs
    assert (first.times, first.bytes_down, first.seconds) == (2, 2000, 4.0)
    assert (second.times, second.bytes_up, second.seconds) == (1, 400, 2.0)
    assert (own.seconds, own.bytes_up) == (pytest.approx(1.0), None)
    assert (total.times, total.bytes_down, total.bytes_up, total.seconds) == (2, 3000, 1200, 7.0)


def test_a_node_that_never_said_which_silo_it_is_stands_under_its_own_name(tmp_path):
    run = Scripted(tmp_path, attackers=["silo 9"]).gate("node 77", "error 200: killed", kind="silent")
    run.learned(AGREES, ALIKE).end()
    page = run.page()
    assert "node 77" in [row.name for row in page.silos] and any('is a "node" until' in note for note in page.notes)
    assert run.row("silo 9").why == "No usable reply ever came under this name (see the nodes below)."
    assert (
        "2 of 6 honest silos" in page.story[1]
        and "1 of 7 silos gave no usable reply in round 1: silo 9" in page.story[1]
    )


def test_two_nodes_with_one_name_are_pointed_out(tmp_path):
    run = Scripted(tmp_path)
    run.silos[4] = "silo 3"
    assert run.learned(AGREES, ALIKE).page().notes == [
        "More than one node called itself silo 3 in one round; its row mixes them."
    ]


def test_settings_that_are_not_the_default_are_marked_with_it(tmp_path):
    rows = dict((name, (value, default)) for name, value, default in Scripted(tmp_path, q=0.9).page().settings)
    assert rows["q"] == (0.9, Settings().q) and rows["seed"] == (0, None)


# The page


def test_a_hostile_name_and_reason_stay_text(tmp_path):
    hostile(tmp_path)
    page = Elements.of(write_report(tmp_path).read_text())
    assert page.scripts == [
        ("data", "application/octet-stream"),
        ("events", "application/octet-stream"),
        ("", ""),
        ("", ""),
    ]
    assert "img" not in page.tags and not page.handlers
    assert page.text.count(HOSTILE) >= 6  # the warning, the failure, the chip, the map's row, the gate's two rows
    assert "{{ 7 * 7 }}" in page.text
    names = [row["name"] for row in unpacked(tmp_path / "report.html")["rows"]]
    assert HOSTILE in names


def test_the_page_needs_nothing_from_anywhere_and_lets_nothing_else_run(tmp_path):
    text = write_report(Scripted(tmp_path).learned(AGREES, ALIKE).end().folder).read_text()
    page = Elements.of(text)
    assert {"link", "iframe", "img", "object", "base", "form"}.isdisjoint(page.tags)
    assert all(link.startswith("#") for link in page.links)
    policy = page.policies[0]
    assert policy.startswith("default-src 'none';") and "unsafe-eval" not in policy
    allowed = re.search("script-src ([^;]*);", policy)[1].split()
    inline = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in inline]
    assert allowed == [f"'sha256-{digest}'" for digest in digests] and len(inline) == 2


def test_40_silos_over_50_rounds_take_little_more_than_the_chart_library(tmp_path):
    library = (files("fedlaw_flwr.reporting") / "assets" / "echarts.min.js").read_bytes()
    assert write_report(large(tmp_path, 40, 50)).stat().st_size < len(library) + 350_000


@pytest.mark.slow
def test_200_silos_over_400_rounds_take_less_than_3_mb(tmp_path):
    """10 seconds: 80,000 replies are written, read and packed."""
    path = write_report(large(tmp_path))
    assert path.stat().st_size < 3_000_000
    data = unpacked(path)
    assert [len(data["silos"]["weight"]), len(data["silos"]["weight"][0])] == [200, 400]


def test_the_page_hands_out_the_events_as_they_are(tmp_path):
    run = Scripted(tmp_path).learned(AGREES, ALIKE).end()
    packed = re.search(r'id="events">([^<]+)<', write_report(run.folder).read_text())[1]
    assert gzip.decompress(base64.b64decode(packed)) == (tmp_path / "events.jsonl").read_bytes()


def test_who_was_excluded_stands_first_and_columns_without_a_value_are_left_out(tmp_path):
    run = Scripted(tmp_path, attackers=["silo 3"], max_byzantine=1).learned(but(AGREES, silo_3=-0.05), ALIKE).end()
    page = run.page()
    assert [row.name for row in page.silos_first] == ["silo 3"] and len(page.silos_rest) == 5
    titles = [column.title for column in page.columns_of(page.silos)]
    assert "Attack" in titles and not {"Rejected", "Silent", "Loss raised"} & set(titles)
    assert [(group.title, len(group.silos)) for group in page.groups] == [("Attackers excluded", 1), ("Counted", 5)]


def test_a_link_to_a_silo_ends_with_its_name_and_no_two_are_the_same(tmp_path):
    run = Scripted(tmp_path)
    run.silos = ["silo 7", "Bonn", "bonn", "silo-7", "???", "St. Mary's"]
    anchors = {row.name: row.anchor for row in run.learned(AGREES, ALIKE).end().page().silos}
    assert anchors["silo 7"] == "silo-7" and anchors["St. Mary's"] == "silo-st-mary-s"
    assert {anchors["Bonn"], anchors["bonn"]} == {"silo-bonn", "silo-bonn_2"}
    assert len(set(anchors.values())) == 6


def test_the_title_says_in_words_what_the_run_was(tmp_path):
    run = Scripted(tmp_path, attackers=["silo 3"], max_byzantine=1).learned(AGREES, ALIKE).end()
    assert run.page().title == "FedLAW on digits: 6 silos, 1 of them attacker"


# One plain sentence a silo


def short(run, silo):
    return run.row(silo).short


def test_what_spoke_against_a_silo_is_said_in_one_plain_sentence(tmp_path):
    against = Scripted(tmp_path / "a").learned(but(AGREES, silo_3=-0.031), ALIKE).end()
    assert short(against, "silo 3") == "It pointed against the others in round 1."
    loss = Scripted(tmp_path / "b").learned(but(AGREES, silo_3=0.011), but(ALIKE, silo_3=3.1)).end()
    assert short(loss, "silo 3") == "Its loss was far above that of the silos that got weight in round 1."
    rejected = Scripted(tmp_path / "c", max_byzantine=1).gate("silo 3", "the loss is nan")
    rejected.learned(AGREES, ALIKE, absent=["silo 3"]).end()
    assert short(rejected, "silo 3") == "Its reply was rejected in round 1: the loss is nan."
    left_out = Scripted(tmp_path / "d", strategy="krum", max_byzantine=1).by_rule(kept=["silo 1"]).end()
    assert short(left_out, "silo 3") == "krum left its update out in round 1."


def test_a_silo_that_counted_is_told_its_weight_beside_an_equal_share(tmp_path):
    run = Scripted(tmp_path, max_byzantine=1).learned(but(AGREES, silo_3=-0.05), ALIKE)
    run.learned(but(AGREES, silo_3=0.9), ALIKE).end()
    assert re.fullmatch(
        r"It counted: weight [0-9.]+ at the end \(an equal share is 0.167\); it had no weight in 1 of 2 rounds.",
        short(run, "silo 3"),
    )


def test_the_rounds_in_which_a_silos_part_changed_are_listed_with_the_reason(tmp_path):
    run = Scripted(tmp_path, max_byzantine=1).learned(AGREES, ALIKE).learned(but(AGREES, silo_3=-0.5), ALIKE)
    run.gate("silo 3", "no answer within 600 s", kind="silent").frozen(absent=["silo 3"])
    changes = run.end().row("silo 3").changes
    assert [number for number, _ in changes] == [1, 2, 3]
    assert changes[0][1].startswith("It counts with weight")
    assert changes[1][1] == "It has no weight: it pointed against the others."
    assert changes[2][1] == "It gave no reply: no answer within 600 s."


def test_equal_reasons_stand_once_with_all_names(tmp_path):
    run = Scripted(tmp_path).learned(but(AGREES, silo_3=-0.03, silo_5=-0.03), ALIKE).end()
    (reason,) = run.page().reasons
    assert (reason.sentence, reason.silos) == ("It pointed against the others in round 1.", ["silo 3", "silo 5"])


def test_of_peer_review_the_page_says_how_many_of_those_that_vouch_speak_against_a_silo(tmp_path):
    run = reviewed(tmp_path)
    page = page_of(run)
    event = run.rounds[0]
    said = "6 of the 6 silos that vouch for each other say its update would raise their loss"
    assert told_by_reviewers(event, "silo 7") == said
    assert told_by_reviewers(event, "silo 0").startswith("0 of the 5 silos")
    rows = {row.name: row for row in page.silos}
    assert rows["silo 7"].short == f"{said} (round 1)." and rows["silo 7"].outcome == "attacker caught"
    assert rows["silo 6"].short == "It was not among the 6 silos that vouch most for each other (round 1)."
    assert rows["silo 6"].why == (
        "Round 1: it is not among the 6 that vouch most for each other. Relative support by these silos, mean over the "
        "rounds so far: +0.015 against +0.02 (their median). It sent no valid review."
    )
    assert rows["silo 7"].changes == [(1, f"It has no weight: {said}.")]
    data = page_data(run, page, {})
    assert page.review == data["review"]["round"] == 1 and data["review"]["silos"] == list(event.silos)
    assert data["review"]["support"][7][0] == -0.03
    assert data["review"]["support"][0][0] is None and data["review"]["support"][0][6] is None
    assert data["reviewed"]["approval"][[row["name"] for row in data["rows"]].index("silo 7")] == [-0.027]
    assert data["frozenAfter"] == 1
    assert "by peer review" in page.legend


def test_of_weights_that_were_frozen_by_most_rounds_the_page_says_so(tmp_path):
    run = reviewed(tmp_path)
    first = run.rounds[0]

    def with_weights(weights):
        return Run.of([replace(one, weights=weights) if one is first else one for one in run.events], tmp_path.name)

    everyone, but_one = with_weights((1 / 8,) * 8), with_weights((0.0, *[1 / 7] * 7))
    row = next(row for row in page_of(everyone).silos if row.name == "silo 7")
    assert row.short == "It had weight in 1 of 1 weight rounds, of which later ones count more, so it kept none."
    assert row.why.endswith(row.short)
    kept = "It had weight in 0 of 1 weight rounds, of which later ones count more, so it kept some."
    assert by_most_rounds(but_one, but_one.rounds[0], "silo 0") == kept
    assert by_most_rounds(run, first, "silo 0") == by_most_rounds(run, first, "silo 7") == ""


def test_without_the_matrix_the_mean_support_speaks(tmp_path):
    run = reviewed(tmp_path, matrix=False)
    page = page_of(run)
    assert page.review is None and page_data(run, page, {})["review"] is None
    assert next(row.short for row in page.silos if row.name == "silo 7") == (
        "On average, the silos that vouch for each other say its update would raise their loss (round 1)."
    )


# Cost


def test_the_cost_stands_beside_that_of_one_exchange_and_what_was_saved(tmp_path):
    told = Scripted(tmp_path).learned(AGREES, ALIKE).frozen().end().page().cost_story
    # One exchange is 1,400 bytes and 2 s; a round takes 0.5 s more.
    assert told[0].startswith(
        "The run moved 4.2 kB in 7.0 s. Averaging with one exchange in the same rounds would have"
    )
    assert "moved 2.8 kB in 5.0 s" in told[0] and "+50 % bytes, +40 % seconds" in told[0]
    assert told[1] == "Frozen weights saved 1 such exchanges, about 1.4 kB and 2.0 s."
    assert len(told) == 2  # replies of exchange 2 were as long as those of exchange 1


def test_a_rule_with_one_exchange_is_compared_with_nothing(tmp_path):
    told = Scripted(tmp_path, strategy="cw_median").by_rule().end().page().cost_story
    assert told == ["The run moved 1.4 kB in 2.5 s, with one exchange a round."]


# How to repeat the run


def test_the_command_of_the_page_gives_the_settings_of_the_run(tmp_path):
    run = Scripted(tmp_path, attackers=["silo 3"], q=0.9, loss_filter=False, attack="lie:0.2,label_flipping:1")
    words = shlex.split(run.learned(AGREES, ALIKE).end().page().repeat.command)
    assert words[:2] == ["fedlaw", "run"]
    again = Settings.read(parsed(words[2:])).as_config()
    assert again == run.settings.as_config() | {"run-dir": ""}


def test_a_run_over_the_silos_own_data_names_no_command_that_could_not_repeat_it():
    run = Run.of([RunStarted(settings={"task": "own", "num-silos": 3, "strategy": "fedlaw"}, own_task="heart disease")])
    found = repeat(run)
    assert found.command == "" and "fedlaw deploy run" in found.sentence
    assert page_of(run).title == "FedLAW on heart disease: 3 silos"


# Several runs


def test_runs_beside_a_run_are_laid_over_its_curve_and_their_settings_compared(tmp_path):
    law = Scripted(tmp_path / "a").learned(AGREES, ALIKE).end()
    median = Scripted(tmp_path / "b", strategy="cw_median").by_rule().end()
    path = write_report(law.folder, median.folder)
    assert path == law.folder / "comparison.html"
    page = page_of(Run.read(law.folder), [Run.read(median.folder)])
    assert page.runs.labels == ["FedLAW", "cw_median"] and ("strategy", ["fedlaw", "cw_median"]) in page.runs.differ
    assert [one["label"] for one in unpacked(path)["measured"]] == ["FedLAW", "cw_median"]


def test_the_same_run_gives_the_same_page(tmp_path):
    run = Scripted(tmp_path).learned(but(AGREES, silo_3=-0.05), ALIKE).end()
    first = write_report(run.folder).read_bytes()
    assert write_report(run.folder).read_bytes() == first


@pytest.mark.parametrize(
    ("package", "made"),
    [("jinja2", "report.html"), ("matplotlib", "weights.png")],
)
def test_without_the_report_extra_one_sentence_says_what_to_install(tmp_path, monkeypatch, package, made):
    run = Scripted(tmp_path).learned(AGREES, ALIKE).end()
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ModuleNotFoundError, match=rf"^{package} is not installed.*pip install 'fedlaw-flwr\[report\]'$"
    ):
        write_report(run.folder) if made.endswith("html") else weights_picture(run.folder, tmp_path / made)
    assert not (tmp_path / made).exists()


def test_the_page_of_a_real_run_agrees_with_its_verdict_and_its_events_have_the_shape_tested_here(tmp_path):
    settings = {"num-silos": 10, "num-rounds": 2, "weight-rounds": 1, "local-epochs": 1, "attack": "inverse_gradient"}
    run_in_process(app, Settings.read(settings), tmp_path / "real")
    real, scripted = Run.read(tmp_path / "real"), Scripted(tmp_path / "scripted").learned(AGREES, ALIKE).frozen()
    ours = Run.read(scripted.folder)
    assert [set(event.to_dict()) for event in real.rounds] == [set(event.to_dict()) for event in ours.rounds]
    outcomes = [row.outcome for row in page_of(real).silos]
    found = verdict(real)
    assert (outcomes.count("attacker caught"), outcomes.count("honest, excluded")) == (
        found.caught,
        found.wrongly_excluded,
    )
    assert all(row.why for row in page_of(real).silos if row.weight == 0.0)
    text = write_report(tmp_path / "real").read_text()
    assert "10 silos learned digits together for 2 rounds with FedLAW" in text


# The pictures


def test_the_heat_map_puts_attackers_last_and_leaves_absences_empty(tmp_path):
    run = Scripted(tmp_path, silos=12, attackers=["silo 1"], max_byzantine=2).learned([0.012] * 12, [0.4] * 12)
    run.skipped("too few").frozen(absent=["silo 10"]).end()
    drawn = weight_map(Run.read(tmp_path))
    assert drawn.silos == [*(f"silo {n}" for n in range(12) if n != 1), "silo 1"] and drawn.attackers == 1
    assert np.isnan(drawn.weights[:, 1]).all() and np.isnan(drawn.weights[drawn.silos.index("silo 10"), 2])
    assert np.nansum(drawn.weights[:, 0]) == pytest.approx(1.0)
    assert (drawn.rounds, drawn.frozen_after) == ([1, 2, 3], 1)


@pytest.mark.parametrize("silos", [5, 40, 200])
def test_the_picture_is_900_pixels_wide_at_double_resolution_for_any_number_of_silos(tmp_path, silos):
    attackers = [f"silo {number}" for number in range(silos // 5)]
    run = Scripted(tmp_path, silos=silos, attackers=attackers, max_byzantine=1)
    run.learned(np.linspace(-0.01, 0.02, silos), [0.4] * silos).frozen().end()
    height, width, _ = imread(weights_picture(tmp_path, tmp_path / "weights.png")).shape
    assert width == 1800 and 600 <= height <= 1700
    assert weights_picture(tmp_path, tmp_path / "weights.svg").read_text().rstrip().endswith("</svg>")


def test_a_comparison_shows_every_strategy_and_the_weights_of_the_first_that_has_any(tmp_path):
    median = Scripted(tmp_path / "a", strategy="cw_median").by_rule().end()
    law = Scripted(tmp_path / "b", attackers=["silo 3"]).learned(but(AGREES, silo_3=-0.05), ALIKE).end()
    path = comparison_picture([median.folder, law.folder], tmp_path / "both.svg")
    drawn = re.findall(r"<!--(.*?)-->", path.read_text())
    assert {" cw_median: 30.0 % ", " FedLAW: 30.0 % "} <= set(drawn)
    assert " weight of each silo, FedLAW (attackers below the line, in red) " in drawn


def test_runs_of_one_strategy_are_told_apart_by_the_settings_that_differ():
    law = {"strategy": "fedlaw", "variant": "fedlaw", "beta": 0.01, "run-dir": "a"}
    labels = run_labels([law, law | {"beta": 0.1, "run-dir": "b"}, law | {"variant": "bsum"}, law])
    assert labels == ["FedLAW, beta 0.01", "FedLAW, beta 0.1", "FedLAW, variant bsum", "FedLAW, beta 0.01 (run 4)"]


def test_a_picture_of_another_kind_is_refused_by_name(tmp_path):
    run = Scripted(tmp_path).learned(AGREES, ALIKE).end()
    with pytest.raises(ValueError, match=r"a picture is written as \.png, \.svg or \.pdf"):
        weights_picture(run.folder, tmp_path / "weights.jpg")
