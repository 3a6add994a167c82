"""The settings of what is learned, and from which examples: each defined here, once."""

from dataclasses import dataclass
from pathlib import Path

from fedlaw_flwr.core.partition import KINDS
from fedlaw_flwr.core.setting import setting
from fedlaw_flwr.tasks import OWN, TASKS
from fedlaw_flwr.tasks.choice import INPUTS, widths_of


def _absolute(value: str) -> str:
    """Absolute, since the processes of a run have working directories of their own."""
    return str(Path(value).expanduser().resolve()) if value else ""


def _widths(value: str) -> str:
    return ",".join(map(str, widths_of(value)))


@dataclass(kw_only=True)
class TaskOptions:
    """What is learned, and from what"""

    task: str = setting(
        "digits",
        "what is learned: digits and breast_cancer are embedded in scikit-learn, the others are torchvision's; own: "
        "what each silo's own configuration says",
        choices=(*TASKS, OWN),
    )
    data_dir: str = setting("", "the folder of torchvision's files, for tasks that need it", check=_absolute)
    download: bool = setting(False, "let torchvision download into data-dir")
    train_examples: int = setting(
        0, "how many of the training split are dealt to the silos, drawn by the seed; 0: all", least=0, unit="examples"
    )
    inputs: str = setting(
        "standardised",
        "how inputs are scaled, by constants of the training split: standardised, (x - mean) / deviation; unit, to "
        "[0, 1]; centred, to [-1, 1]",
        choices=INPUTS,
    )
    widths: str = setting(
        "",
        'widths of a perceptron\'s hidden layers ("200,100") or of the CNN\'s convolutions ("32,64,64"); empty: the '
        "task's own",
        allowed="whole numbers from 1 up, with commas between them",
        check=_widths,
    )
    initial_model: str = setting(
        "",
        'with task="own": the safetensors file that real silos start from, made by `fedlaw check --save-model`',
        check=_absolute,
    )
    seed: int = setting(
        0, "of all randomness: split, partition, attackers, model, batches, attacks, buckets", least=0, below=2**63
    )
    num_silos: int = setting(20, "silos in the federation", least=2, most=100_000, unit="silos")
    partition: str = setting("q-groups", "how examples are dealt to silos; q-groups is the paper's", choices=KINDS)
    q: float = setting(0.6, "q-groups: the chance that an example stays in the group of its label", least=0, most=1)
    concentration: float = setting(0.5, "of the Dirichlet partition; the lower, the less alike silos are", above=0)
