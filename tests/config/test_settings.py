"""Settings: every wrong one gets a sentence with its name, its value and what is allowed, before anything starts."""

import json
import logging
import tomllib
from pathlib import Path

import pytest

from fedlaw_flwr.attacks import ATTACKS
from fedlaw_flwr.attacks.plan import AttackPlan
from fedlaw_flwr.config.reference import page, pyproject
from fedlaw_flwr.config.settings import STRATEGIES, Settings, SettingsError, _warn_once, every_setting
from fedlaw_flwr.core.setting import settings_of
from fedlaw_flwr.strategy import FedLAW

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num-rounds": 2.5}, r"num-rounds=2\.5: .*integer"),
        ({"num-rounds": True}, r"num-rounds=True: a number"),
        ({"num-rounds": "3"}, r"num-rounds='3'"),
        ({"num-rounds": 0}, r"num-rounds=0: .*greater than or equal to 1"),
        ({"q": 1.4}, r"q=1\.4: .*less than or equal to 1"),
        ({"q": float("nan")}, r"q=nan"),
        ({"lr": 0.0}, r"lr=0\.0: .*greater than 0"),
        ({"max-byzantine": 30}, r"max-byzantine=30 of n=20 silos: 2b\+2 <= n is needed, so at most 9"),
        ({"max-byzantine": 0.6}, r"max-byzantine=0\.6"),
        ({"max-byzantine": "4"}, r"max-byzantine='4': a count \(4\) or a fraction"),
        ({"strategy": "fedlow"}, r"strategy='fedlow': .*did you mean 'fedlaw'"),
        ({"task": "digit"}, r"task='digit': .*did you mean 'digits'"),
        ({"attack": "inverse"}, r"'inverse' is not one of none, "),
        ({"attack": "label_flipping:x"}, r"'x' is neither a count"),
        ({"attack": "label_flipping", "byzantine": 20}, r"20 attackers of 20 silos leave nobody honest"),
        ({"s": 4, "t": 0.1}, r"s=4, t=0\.1: s\*t = 0\.4 < 1"),
        ({"s": 21}, r"s=21"),
        ({"clip": "hard"}, r"clip='hard': allowed are rank, none, oracle"),
        ({"loss-at": "end"}, r"loss-at='end': allowed are trained, received"),
        ({"data-dir": "/no/such/folder"}, r"data-dir='/no/such/folder': there is no such folder"),
        ({"strategy": "bulyan", "max-byzantine": 5}, r"bulyan with f=5 needs n >= 4f \+ 3 = 23"),
        ({"nun-rounds": 3}, r"nun-rounds: there is no such setting; did you mean 'num-rounds'"),
        ({"thrift": "yes"}, r"thrift='yes'"),
        (
            {"attack": "backdoor", "task": "breast_cancer"},
            r"attack='backdoor' needs a task with images \(digits, .*has none",
        ),
        ({"quorum": 21}, r"quorum=21: more than the num-silos=20"),
        ({"task": "mnist"}, r"task='mnist' needs data-dir"),
        ({"buffers": "("}, r"buffers='\(': no regular expression"),
        ({"clip": float("inf")}, r"clip=inf: allowed are"),
        ({"device": "gpu"}, r"device='gpu'"),
        ({"weight-rounds": 0}, r"weight-rounds=0 and refresh-every=0: no weight is ever learned"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_what_is_allowed(values, said):
    with pytest.raises(SettingsError, match=said):
        Settings.read(values)


def test_every_wrong_setting_gets_its_own_line():
    with pytest.raises(SettingsError) as found:
        Settings.read({"num-rounds": 2.5, "q": 1.4})
    assert len(str(found.value).splitlines()) == 2


def test_settings_survive_the_way_to_a_file_and_back():
    settings = Settings.read({"q": 0.9, "attack": "label_flipping:0.1,inverse_gradient:2", "clip": 3.5})
    assert Settings.read(settings.as_config()) == settings


def test_whole_numbers_are_taken_where_a_real_one_is_expected():
    assert Settings.read({"q": 1, "lr": 1}).lr == 1.0


def test_flwrs_run_config_lists_every_setting_with_its_default():
    text = (ROOT / "pyproject.toml").read_text()
    config = tomllib.loads(text)["tool"]["flwr"]["app"]["config"]
    assert pyproject(text) == text
    formerly = {one.formerly for one in every_setting() if one.formerly}
    assert {name: value for name, value in config.items() if name not in formerly} == Settings().as_config()
    assert {config[name] for name in formerly} == {""}


def test_every_strategy_can_be_named_where_its_condition_holds():
    for name in STRATEGIES:
        assert Settings.read({"strategy": name, "max-byzantine": 2}).strategy == name


def test_a_mix_of_attacks_gives_each_its_share_and_no_silo_two():
    plan = AttackPlan.read("label_flipping:0.2,inverse_gradient:3", 0.0, 20, "groups", 0)
    assert len(plan.members("label_flipping")) == 4 and len(plan.members("inverse_gradient")) == 3
    assert len(plan.attackers) == 7


def test_no_attack_means_nobody_attacks():
    plan = AttackPlan.read("none", 0.4, 20, "groups", 0)
    assert plan.attackers == frozenset() and plan.attack_of(3) is None


def test_every_attack_can_be_planned():
    for name in ATTACKS:
        assert len(AttackPlan.read(name, 0.25, 20, "random", 1).members(name)) == 5


def test_the_settings_page_is_what_the_definitions_make_of_it():
    assert (ROOT / "docs" / "reference" / "settings.md").read_text() == page()


def test_the_settings_page_names_every_setting_with_its_default():
    rows = {
        line.split("|")[1].strip(" `"): line.split("|")[2].strip()
        for line in page().splitlines()
        if line.startswith("| `")
    }
    expected = {
        name: "batch-norm names" if name == "buffers" else f"`{json.dumps(value)}`"
        for name, value in Settings().as_config().items()
    }
    assert rows == expected


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("thrift", "loss-only-replies", False),
        ("memory", "score-decay", 0.5),
        ("coalition-distance", "cluster-distance", 0.05),
        ("watch", "relearn-on-conflict", True),
        ("wait", "startup-timeout", 7.0),
    ],
)
def test_a_setting_is_taken_under_its_name_of_the_release_before_with_a_word_about_it(old, new, value, caplog):
    _warn_once.cache_clear()
    caplog.set_level(logging.WARNING, logger="flwr")  # whatever a command before set
    assert Settings.read({old: value}) == Settings.read({new: value}) != Settings()
    assert f"{old} is now called {new}" in caplog.text


def test_an_old_name_that_flowers_run_config_leaves_empty_is_not_given():
    assert Settings.read({"thrift": "", "memory": "", "wait": ""}) == Settings()


def test_fedlaw_takes_every_setting_of_its_groups_with_the_same_default():
    shared = settings_of(FedLAW).keys() & settings_of(Settings).keys()
    assert {"beta", "clip", "startup_timeout", "max_byzantine", "score_decay"} <= shared
    for name in shared - {"lr", "num_silos"}:
        assert settings_of(FedLAW)[name].default == settings_of(Settings)[name].default, name
    assert all(f"    {name}: " in FedLAW.__doc__ for name in settings_of(FedLAW))


def test_a_rules_own_numbers_are_those_of_the_run():
    assert Settings.read({"strategy": "multi_krum", "krum-m": 5}).rule_settings().krum_m == 5
    assert Settings.read({"strategy": "multi_krum"}).rule_settings().krum_m is None


@pytest.mark.parametrize("widths", ["200;100", "0", "-3", "200,", "wide"])
def test_widths_are_whole_numbers_between_commas(widths):
    with pytest.raises(SettingsError, match=f"^widths='{widths}': whole numbers from 1 up are expected"):
        Settings.read({"widths": widths})


def test_widths_that_a_cnn_cannot_have_are_refused_before_anything_starts(tmp_path):
    with pytest.raises(SettingsError, match="three convolutions"):
        Settings.read({"task": "cifar10", "data-dir": str(tmp_path), "widths": "200,100"})


def test_s_start_lies_between_s_and_all_silos():
    with pytest.raises(SettingsError, match=r"^s-start=15: with num-silos=20 and s=16, 16 to 20 are allowed; 0 is off"):
        Settings.read({"s-start": 15})
    with pytest.raises(SettingsError, match="s is lowered over the weight rounds"):
        Settings.read({"s-start": 20, "weight-rounds": -1})
    with pytest.raises(
        SettingsError, match=r"^warm-rounds=4: of weight-rounds=4 these are the first, with equal weights"
    ):
        Settings.read({"warm-rounds": 4, "weight-rounds": 4})
    with pytest.raises(SettingsError, match=r"^s-start=20, weight-rounds=3"):
        Settings.read({"s-start": 20, "weight-rounds": 3, "warm-rounds": 2})
    assert Settings.read({"s-start": 20}).s_start == 20
