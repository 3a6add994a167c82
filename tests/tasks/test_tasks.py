"""Tasks: exact splits, standardisation from the training split, models by hand, files and devices that are missing."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fedlaw_flwr.core.partition import Partition
from fedlaw_flwr.tasks import TASKS, load_task
from fedlaw_flwr.tasks.choice import Choice
from fedlaw_flwr.tasks.device import device
from fedlaw_flwr.tasks.models import cnn, mlp
from fedlaw_flwr.tasks.pooled import PooledTask

MNIST = Path(__file__).resolve().parents[3] / "shared" / "data"


def task(name="digits", num_silos=20, seed=0, **settings):
    return load_task(name, Partition("q-groups", num_silos, seed=seed), seed, Choice(**settings))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "train", "tenth"), [("digits", 1797 - 2 * 179, 179), ("breast_cancer", 569 - 2 * 56, 56)]
)
def test_the_pool_is_split_80_10_10_and_every_training_example_dealt(name, train, tenth):
    found = task(name)
    assert (len(found.load_validation()), len(found.load_test())) == (tenth, tenth)
    assert sum(len(found.load_train(silo)) for silo in range(20)) == train


def test_the_three_splits_share_no_example():
    found = task("breast_cancer")
    rows = [found.load_train(silo).inputs for silo in range(20)]
    rows += [found.load_validation().inputs, found.load_test().inputs]
    assert len(torch.cat(rows).unique(dim=0)) == 569


def test_inputs_are_standardised_by_the_training_split_alone():
    found = task("breast_cancer")
    train = torch.cat([found.load_train(silo).inputs for silo in range(20)])
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(0, unbiased=False), 1, atol=1e-4)
    assert abs(float(found.load_test().inputs.mean())) > 1e-4


@pytest.mark.parametrize(("inputs", "lowest"), [("unit", 0.0), ("centred", -1.0)])
def test_inputs_can_be_scaled_to_a_range_that_the_training_split_fills(inputs, lowest):
    images = torch.cat([task("digits", inputs=inputs).load_train(silo).inputs for silo in range(20)])
    assert (float(images.min()), float(images.max())) == (lowest, 1.0)
    records = torch.cat([task("breast_cancer", inputs=inputs).load_train(silo).inputs for silo in range(20)])
    np.testing.assert_allclose(records.min(0).values, lowest, atol=1e-6)
    np.testing.assert_allclose(records.max(0).values, 1, atol=1e-6)


def test_widths_are_those_of_the_hidden_layers():
    assert count(task("digits", widths=(10,)).build_model(0)) == 64 * 10 + 10 + 10 * 10 + 10
    assert count(task("breast_cancer", widths=(4, 3)).build_model(0)) == 30 * 4 + 4 + 4 * 3 + 3 + 3 * 2 + 2


def test_a_cnn_has_three_convolutions_of_whole_groups():
    first = task("cifar10", widths=(8, 16, 24)).build_model(0)[0]
    assert tuple(first.weight.shape) == (8, 3, 3, 3)
    for widths in ((32, 64), (32, 64, 65)):
        with pytest.raises(ValueError, match="three convolutions, each a multiple of the 8 groups"):
            task("cifar10", widths=widths)


def test_the_same_seed_gives_the_same_examples_and_model_in_another_process():
    script = (
        "import hashlib, torch; from fedlaw_flwr.core.partition import Partition;"
        "from fedlaw_flwr.tasks import load_task;"
        "t = load_task('digits', Partition('q-groups', 20), 0); torch.manual_seed(5);"
        "e = t.load_train(3); tensors = [e.inputs, e.targets, t.load_test().inputs, *t.build_model(7).parameters()];"
        "print(*(hashlib.sha256(x.detach().numpy().tobytes()).hexdigest() for x in tensors))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    here = task()
    tensors = [here.load_train(3).inputs, here.load_train(3).targets, here.load_test().inputs]
    tensors += [parameter.detach() for parameter in here.build_model(7).parameters()]
    assert out == [hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for tensor in tensors]


def test_another_seed_gives_another_split_and_another_model():
    inputs = [task(seed=seed).load_test().inputs for seed in (0, 1)]
    assert not torch.equal(*inputs)
    weights = [next(task().build_model(seed).parameters()) for seed in (0, 1)]
    assert not torch.equal(*weights)


def pooled(inputs, labels, num_silos=1):
    """A task of two labels over made-up records."""
    return PooledTask(
        "made up",
        Partition("iid", num_silos),
        0,
        Choice(),
        load=lambda: (inputs, labels),
        build=lambda: mlp(inputs.shape[1], 2),
        num_labels=2,
        input_shape=inputs.shape[1:],
        is_image=False,
        per_feature=True,
    )


def test_constants_are_those_of_the_training_split_not_of_the_pool():
    """Records 0, 1, .. 99: equal steps show which was which, and so the constants the training records should give."""
    found = pooled(np.arange(100.0)[:, None], np.arange(100) % 2)
    splits = [found.load_train(0).inputs, found.load_validation().inputs, found.load_test().inputs]
    assert [len(part) for part in splits] == [80, 10, 10]
    in_training = set(range(100))
    step = float(torch.cat(splits).flatten().sort().values.diff().mean())
    lowest = float(torch.cat(splits).min())
    for part in splits[1:]:
        in_training -= {round((float(value) - lowest) / step) for value in part}
    records = np.array(sorted(in_training), dtype=float)
    assert step == pytest.approx(1 / records.std(), rel=1e-4)
    assert lowest == pytest.approx(-records.mean() / records.std(), rel=1e-4)


def test_of_the_training_split_so_many_are_dealt_as_the_setting_says_and_the_other_splits_stay_whole():
    whole, part = task("digits", num_silos=4), task("digits", num_silos=4, train_examples=100)
    assert sum(len(part.load_train(silo)) for silo in range(4)) == 100
    assert sum(len(whole.load_train(silo)) for silo in range(4)) > 1400
    assert torch.equal(part.load_test().targets, whole.load_test().targets)
    assert torch.equal(part.load_validation().targets, whole.load_validation().targets)


def test_a_feature_that_never_varies_is_centred_and_not_blown_up():
    inputs = np.column_stack([np.full(200, 0.1), np.arange(200.0)])
    found = pooled(inputs, np.arange(200) % 2)
    assert float(found.load_train(0).inputs[:, 0].abs().max()) < 1e-6


def test_a_pool_too_small_to_split_is_refused_and_never_tested_on_its_training():
    with pytest.raises(ValueError, match="9 examples cannot be split 80/10/10"):
        pooled(np.zeros((9, 1)), np.zeros(9, int)).load_test()


def test_a_model_that_diverged_has_an_accuracy_and_no_auc():
    found = task("breast_cancer").metrics(torch.full((4, 2), float("nan")), torch.tensor([0, 1, 1, 0]))
    assert set(found) == {"accuracy"}


def test_building_a_model_leaves_the_random_state_of_the_process_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    task().build_model(3)
    assert torch.equal(before, torch.get_rng_state())


def test_parameter_counts_agree_with_a_count_by_hand():
    assert count(mlp(784, 200, 100, 10)) == 784 * 200 + 200 + 200 * 100 + 100 + 100 * 10 + 10 == 178_110
    convolutions = (3 * 9 * 32 + 32) + (32 * 9 * 64 + 64) + (64 * 9 * 64 + 64)
    norms = 2 * (32 + 64 + 64)
    assert count(cnn(10)) == convolutions + norms + 64 * 16 * 10 + 10
    assert cnn(100)(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


def test_every_embedded_task_gives_outputs_its_loss_and_metrics_take():
    for name in ("digits", "breast_cancer"):
        found = task(name)
        test = found.load_test()
        assert test.inputs.shape[1:] == found.input_shape
        outputs = found.build_model(0)(test.inputs)
        assert outputs.shape == (len(test), found.num_labels)
        assert torch.isfinite(found.loss(outputs, test.targets))
        assert 0 <= found.metrics(outputs, test.targets)["accuracy"] <= 1


def test_metrics_of_a_perfect_prediction_are_one():
    targets = torch.tensor([0, 1, 1, 0])
    outputs = torch.nn.functional.one_hot(targets, 2).float()
    assert task("breast_cancer").metrics(outputs, targets) == {"accuracy": 1.0, "auc": 1.0}


def test_a_silo_there_is_not_and_a_task_there_is_not_are_refused():
    with pytest.raises(ValueError, match="silo 20"):
        task().load_train(20)
    with pytest.raises(ValueError, match="task='digit'"):
        task("digit")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_missing_files_are_one_sentence_that_names_data_dir_and_download(name, tmp_path):
    pytest.importorskip("torchvision")
    with pytest.raises(FileNotFoundError, match=r"data-dir='.*' holds no \w+; looked for '.*': .*download=true"):
        task(name, data_dir=str(tmp_path)).load_test()
    with pytest.raises(FileNotFoundError, match=f"task='{name}' needs data-dir"):
        task(name).load_test()


def test_damaged_files_are_one_sentence_that_names_their_folder(tmp_path):
    pytest.importorskip("torchvision")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{part}-ubyte").write_bytes(b"not an idx file")
    with pytest.raises(ValueError, match=r"holds a MNIST that is incomplete or damaged, in '.*MNIST/raw'"):
        task("mnist", data_dir=str(tmp_path)).load_test()


@pytest.mark.parametrize("dataset", ["MNIST", "CIFAR10"])
def test_a_download_that_fails_says_so_and_not_that_download_should_be_set(dataset, tmp_path, monkeypatch):
    """The network is replaced by a refusal, as torchvision meets it: URLError."""
    from urllib.error import URLError

    datasets = pytest.importorskip("torchvision").datasets

    def refuse(*arguments, **named):
        raise URLError("no route to host")

    monkeypatch.setattr(datasets.mnist, "download_and_extract_archive", refuse)
    monkeypatch.setattr(datasets.cifar, "download_and_extract_archive", refuse)
    with pytest.raises(
        FileNotFoundError, match=r"could not be downloaded or read there \(.*\); remove '.*' and try again"
    ):
        task(dataset.lower(), data_dir=str(tmp_path), download=True).load_test()


def test_a_torchvision_that_cannot_be_imported_is_one_sentence_that_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ValueError, match=r"task='mnist' needs a torchvision .* `vision` extra"):
        task("mnist", seed=12, data_dir=str(tmp_path)).load_test()


@pytest.mark.skipif(not (MNIST / "MNIST" / "raw").is_dir(), reason="no MNIST files beside the checkout")
def test_mnist_is_70000_images_split_56000_7000_7000():
    pytest.importorskip("torchvision")
    found = task("mnist", data_dir=str(MNIST))
    assert (len(found.load_validation()), len(found.load_test())) == (7000, 7000)
    parts = [found.load_train(silo) for silo in range(20)]
    assert sum(map(len, parts)) == 56_000
    assert parts[0].inputs.shape[1:] == (1, 28, 28) and parts[0].inputs.dtype == torch.float32
    pixels = torch.cat([part.inputs.flatten() for part in parts])
    assert abs(float(pixels.double().mean())) < 1e-5 and abs(float(pixels.double().std()) - 1) < 1e-4


def test_registry_and_tasks_agree_and_every_net_fits_its_input():
    for name, entry in TASKS.items():
        found = task(name)
        assert (found.name, found.num_labels) == (name, entry.num_labels)
        assert found.is_image == (len(found.input_shape) == 3)
        assert found.build_model(0)(torch.zeros(2, *found.input_shape)).shape == (2, entry.num_labels)


def test_one_process_loads_a_task_once():
    assert task() is task()


def test_cifar_files_are_read_as_channels_first(tmp_path, monkeypatch):
    """Ten made-up images in torchvision's layout; its check of the real archives' digests is switched off for them."""
    import pickle

    datasets = pytest.importorskip("torchvision").datasets
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda *arguments: True)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    red = np.zeros((10, 3, 32, 32), np.uint8)
    red[:, 0] = np.arange(10)[:, None, None] * 20
    batch = {"data": red.reshape(10, -1), "labels": list(range(10))}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("0123456789")}))
    found = task("cifar10", num_silos=4, data_dir=str(tmp_path))
    examples = found.load_test()
    assert examples.inputs.shape == (6, 3, 32, 32)
    assert torch.all(examples.inputs[:, 1] == examples.inputs[:, 2])
    assert not torch.all(examples.inputs[:, 0] == examples.inputs[:, 1])


def test_listing_tasks_imports_neither_torch_nor_data_libraries():
    heavy = ["torch", "torchvision", "sklearn", "ray"]
    script = f"import sys, fedlaw_flwr.tasks; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert all(entry.summary and entry.num_labels >= 2 for entry in TASKS.values())


def test_a_device_that_is_not_there_is_refused_by_name():
    assert device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="device='gpu'"):
        device("gpu")
    if not torch.cuda.is_available():
        assert device("auto").type == "cpu"
        with pytest.raises(ValueError, match="device='cuda'"):
            device("cuda")
