"""Tasks: exact splits, standardisation from the training split, models by hand, files and devices that are missing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fedlaw_flwr.partition import Partition
from fedlaw_flwr.tasks import TASKS, load_task
from fedlaw_flwr.tasks.device import device
from fedlaw_flwr.tasks.models import cnn, mlp

MNIST = Path(__file__).resolve().parents[2] / "shared" / "data"


def task(name="digits", num_silos=20, seed=0, **settings):
    return load_task(name, Partition("q-groups", num_silos, seed=seed), seed, **settings)


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


def test_the_same_seed_gives_the_same_examples_and_model_in_another_process():
    script = (
        "import torch; from fedlaw_flwr.partition import Partition; from fedlaw_flwr.tasks import load_task;"
        "t = load_task('digits', Partition('q-groups', 20), 0); torch.manual_seed(5);"
        "print(t.load_train(3).inputs.double().sum().item(), next(t.build_model(7).parameters()).double().sum().item())"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert float(out[0]) == task().load_train(3).inputs.double().sum().item()
    assert float(out[1]) == next(task().build_model(7).parameters()).double().sum().item()


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
    with pytest.raises(FileNotFoundError, match=r"data-dir='.*' holds no \w+; .*download=true"):
        task(name, data_dir=str(tmp_path)).load_test()
    with pytest.raises(FileNotFoundError, match=f"task='{name}' needs data-dir"):
        task(name).load_test()


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
    script = "import sys, fedlaw_flwr.tasks; print([m for m in ('torch', 'sklearn', 'ray') if m in sys.modules])"
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
