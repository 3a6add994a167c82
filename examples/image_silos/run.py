"""Five silos with folders of images, one with its folders' names mixed up: who carries weight, and how accurate."""

import argparse
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedlaw_flwr.apps import own
from fedlaw_flwr.apps.experiment import run_experiment
from fedlaw_flwr.config.settings import STRATEGIES, Settings
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.events.folder import RunFolder
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import EvaluatedBySilos
from fedlaw_flwr.reporting.explanations import why
from fedlaw_flwr.reporting.report import write_report
from fedlaw_flwr.tasks.base import Examples
from fedlaw_flwr.tasks.initial import save_initial
from fedlaw_flwr.training.local import evaluate

SHARES = (0.30, 0.25, 0.20, 0.10, 0.15)
"""How the images are dealt to the silos."""

MIXED_UP = 4
"""The silo in which each folder has the next class's name."""

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Outcome:
    """A finished run. own_accuracy: by silo, on what it holds back; accuracy: on what the honest ones hold back."""

    run: Run
    own_accuracy: Mapping[str, float]
    accuracy: float


def write_digits(folder: Path, side: int) -> Path:
    """scikit-learn's 1,797 digits, 8x8, as grey PNGs of this side in a folder for each digit."""
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    for index, (pixels, label) in enumerate(zip(found.images, found.target, strict=True)):
        path = folder / str(label) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.round(pixels * 255 / 16).astype(np.uint8)
        Image.fromarray(grey).resize((side, side), Image.Resampling.BILINEAR).save(path)
    return folder


def classes_in(source: Path) -> list[str]:
    """The names of its folders. Raises ValueError for fewer than two."""
    found = sorted(path.name for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(found) < 2:
        raise ValueError(f"--data {source}: a folder for each of two or more classes is expected")
    return found


def deal(source: Path, classes: list[str], folder: Path, most: int, rng: np.random.Generator) -> list[Path]:
    """Copies the images of each class, at most `most` of it, to the silos by SHARES, a fifth of each to `test` and the
    rest to `train`; returns the silos' folders."""
    silos = [folder / f"silo-{index}" for index in range(len(SHARES))]
    for label, name in enumerate(classes):
        images = sorted(path for path in (source / name).iterdir() if path.suffix.lower() in IMAGES)
        order = rng.permutation(len(images))[:most]
        ends = np.round(np.cumsum(SHARES) * len(order)).astype(int)[:-1]
        for index, (silo, part) in enumerate(zip(silos, np.split(order, ends), strict=True)):
            written = classes[(label + 1) % len(classes)] if index == MIXED_UP else name
            test, train = np.split(part, [max(1, len(part) // 5)])
            for split, chosen in (("train", train), ("test", test)):
                (silo / split / written).mkdir(parents=True)
                for image in chosen:
                    shutil.copyfile(images[image], silo / split / written / images[image].name)
    return silos


def configs_of(silos: Sequence[Path], options: Mapping[str, Any], seed: int) -> list[dict[str, Any]]:
    """Each silo's node config, as its silo.yaml gives it."""
    return [
        {
            "name": f"silo-{index}",
            "task": "image_folder",
            "data-path": str(silo),
            "partition-id": index,
            "num-partitions": len(silos),
            "seed": seed,
            **options,
        }
        for index, silo in enumerate(silos)
    ]


def train(configs: list[dict[str, Any]], initial: Path, folder: Path, changed: Mapping[str, Any]) -> Outcome:
    """One federated run in this process; each silo trains and measures by its own ClientApp."""
    settings = Settings.read(
        {
            "task": "own",
            "initial-model": str(initial),
            "num-silos": len(configs),
            "max-byzantine": 1,
            "local-epochs": 1,
            "run-dir": str(folder),
            **changed,
        }
    )
    grid = InProcessGrid(own.app, len(configs), settings.as_config(), node_configs=configs)
    with RunFolder.create(settings) as opened:
        result = run_experiment(grid, settings, opened)
    run = Run.read(folder)
    said = [event for event in run.events if isinstance(event, EvaluatedBySilos)][-1].by_silo["accuracy"]
    task = own.task_of(configs[0])
    model = task.build_model(0)
    model.load_state_dict(result.arrays.to_torch_state_dict())
    parts = [own.task_of(config).load_test() for index, config in enumerate(configs) if index != MIXED_UP]
    together = Examples(torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts]))
    return Outcome(run, said, evaluate(model, task, together)["accuracy"])


def table(configs: list[dict[str, Any]], outcomes: Mapping[str, Outcome]) -> list[str]:
    """A line for each silo, and one for the honest silos' held-back images together."""
    lines = [
        f"{'':24}" + "".join(f"{name:>24}" for name in outcomes),
        f"{'silo':8}{'images':>6}  {'folders':8}" + f"{'weight':>10}{'own accuracy':>14}" * len(outcomes),
    ]
    for index, config in enumerate(configs):
        task = own.task_of(config)
        images = len(task.load_train()) + len(task.load_test())
        line = f"silo {index:<3}{images:6}  {'mixed up' if index == MIXED_UP else '-':8}"
        for outcome in outcomes.values():
            weight, accuracy = outcome.run.weight(f"silo {index}"), outcome.own_accuracy.get(f"silo {index}")
            line += f"{'-' if weight is None else f'{weight:.3f}':>10}"
            line += f"{'-' if accuracy is None else f'{accuracy:.1%}':>14}"
        lines.append(line)
    last = "".join(f"{f'{outcome.accuracy:.1%}':>24}" for outcome in outcomes.values())
    return [*lines, f"{'honest silos together':24}{last}"]


def main(arguments: Sequence[str] | None = None) -> dict[str, Outcome]:
    """The command; returns what it has printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of class folders (default: scikit-learn's digits)")
    parser.add_argument("--side", type=int, default=16, help="images are brought to side x side, a multiple of 8")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=1, help="1: grey, 3: colour")
    parser.add_argument("--per-class", type=int, default=10_000, help="how many images of each class are used at most")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--beta", type=float, default=0.1, help="FedLAW's step of the weights")
    parser.add_argument("--strategy", nargs="+", choices=STRATEGIES, default=["fedlaw", "fedavg"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validation", action="store_true", help="measure on a fifth of `train`, leave `test` alone")
    parser.add_argument("--folder", type=Path, help="where files, runs and reports go, a new folder (a temporary one)")
    chosen = parser.parse_args(arguments)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    if chosen.folder and chosen.folder.exists():
        parser.error(f"--folder {chosen.folder}: it is there already; name a new one")
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="image-silos-"))

    source = chosen.data or write_digits(folder / "digits", chosen.side)
    try:
        classes = classes_in(source)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    silos = deal(source, classes, folder / "silos", chosen.per_class, np.random.default_rng(chosen.seed))
    options = {"classes": ",".join(classes), "side": chosen.side, "channels": chosen.channels}
    configs = configs_of([silo / "train" for silo in silos] if chosen.validation else silos, options, chosen.seed)
    task = own.task_of(configs[0])
    initial = folder / "initial.safetensors"
    arrays = {key: value.numpy() for key, value in task.build_model(chosen.seed).state_dict().items()}
    save_initial(initial, arrays, task.name, task.description())

    outcomes = {}
    for strategy in chosen.strategy:
        changed = {"strategy": strategy, "num-rounds": chosen.rounds, "lr": chosen.lr, "beta": chosen.beta}
        outcomes[strategy] = train(configs, initial, folder / strategy, changed)
    print(f"{len(classes)} classes, {len(silos)} silos, {chosen.rounds} rounds\n")
    print("\n".join(table(configs, outcomes)))
    for strategy, outcome in outcomes.items():
        said = {f"silo {index}": why(outcome.run, f"silo {index}") for index in range(len(silos))}
        if any(said.values()):
            print(f"\n{strategy}:", *(f"  {silo}: {text}" for silo, text in said.items() if text), sep="\n")
    print("\n" + "\n".join(f"report: {write_report(folder / strategy)}" for strategy in outcomes))
    return outcomes


if __name__ == "__main__":
    main()
