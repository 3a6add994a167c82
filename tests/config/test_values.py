"""Values as people write them on a command line: taken where they are clear, else told how to write them."""

import pytest

from fedlaw_flwr.config.settings import Settings, SettingsError, parsed, without_effect


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("q=.5", 0.5),
        ("q=5.e-1", 0.5),
        ("q=-.25", -0.25),
        ("lr=1e-2", 0.01),
        ("seed=0x10", 16),
        ("num-silos=1_000", 1000),
        ("attack=none ", "none"),
        (" attack = none", "none"),
        ("watch=True", True),
        ("nnm=FALSE", False),
        ("run-dir=2024-05-01", "2024-05-01"),
        ("run-dir=2024-05-01T10:00:00Z", "2024-05-01T10:00:00Z"),
        ("run-dir=10:00:00", "10:00:00"),
        ("run-dir=runs/2024-05-01", "runs/2024-05-01"),
        ("attack=“lie”", "lie"),
        ("attack=„lie“", "lie"),
        ("widths=32,16", "32,16"),
        ('widths="32"', "32"),
        ("run-dir=a=b", "a=b"),
        ("run-dir=a\nb = 1", "a\nb = 1"),
        ("buffers=", ""),
    ],
)
def test_what_is_clear_is_taken(pair, value):
    (found,) = parsed([pair]).values()
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("widths=32", "widths=32: a text is expected; as text write '\"32\"'"),
        ("widths=[32, 16]", "as text write '\"32,16\"'"),
        ("run-dir=7", "as text write '\"7\"'"),
        ("run-dir=true", "as text write '\"true\"'"),
        ("max-byzantine=20%", "write 0.2"),
        ("q=0,5", "write 0.5"),
        ("q=60 %", "write 0.6"),
        ("num-rounds=1e3", "num-rounds=1000.0: an integer is expected; write 1000"),
        ("num-rounds=5.", "write 5"),
        ("seed=007", "write 7"),
        ("relearn-on-conflict=yes", "write true"),
        ("relearn-on-conflict=0", "write false"),
        ("nnm=off", "write false"),
    ],
)
def test_what_is_not_is_told_with_how_to_write_it(pair, said):
    with pytest.raises(SettingsError) as refused:
        Settings.read(parsed([pair]))
    assert str(refused.value).endswith(said)


@pytest.mark.parametrize("pair", ["num-silos=1,000", "q=half", "num-rounds=2.5", "seed=12a", "device=7", "lr=inf"])
def test_nothing_is_guessed_where_it_may_mean_two_things(pair):
    with pytest.raises(SettingsError) as refused:
        Settings.read(parsed([pair]))
    assert "write" not in str(refused.value)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["seed=1", "seed=2"], "seed is given twice, 'seed=1' and 'seed=2': give it once"),
        (["seed=1", "q=0.5", "seed=1"], "seed is given twice"),
        (["num_rounds=3", "num-rounds=4"], "num-rounds is given twice"),
        (["thrift=false", "loss-only-replies=true"], "loss-only-replies is given twice, 'thrift=false'"),
        (["=3"], "'=3': a setting is written name=value"),
        (["seed"], "'seed': a setting is written name=value"),
    ],
)
def test_a_setting_is_given_once_and_by_its_name(pairs, said):
    with pytest.raises(ValueError) as refused:
        parsed(pairs)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"byzantine": 0.3}, "byzantine=0.3 has no effect: attack='none', so nobody attacks"),
        ({"attack-noise": 0.1, "attack": "none"}, "attack-noise=0.1 has no effect: attack='none'"),
        ({"attack": "lie:0.2", "byzantine": 4}, "byzantine=4 has no effect: attack='lie:0.2' gives every share itself"),
        ({"krum-m": 3}, "krum-m=3 has no effect: strategy='fedlaw'"),
        ({"beta": 0.1, "strategy": "krum"}, "beta=0.1 has no effect: only strategy='fedlaw' reads it"),
        ({"q": 0.9, "partition": "iid"}, "q=0.9 has no effect: partition='iid'"),
        ({"concentration": 0.1}, "concentration=0.1 has no effect: partition='q-groups'"),
    ],
)
def test_a_setting_that_changes_nothing_beside_the_others_is_said(values, said):
    (sentence,) = without_effect(values)
    assert sentence.startswith(said)


def test_settings_that_do_something_are_not_said():
    assert without_effect({"attack": "lie:0.2,label_flipping", "byzantine": 0.3, "attack-noise": 0.1, "q": 0.9}) == []
    assert without_effect({"partition": "dirichlet", "concentration": 0.1, "beta": 0.1, "seed": 3, "drills": ""}) == []
    assert without_effect({"strategy": "krum", "bucket-size": 2, "max-byzantine": 3, "byzantine": 0}) == []
