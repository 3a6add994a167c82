"""Six hospitals made of the Wisconsin breast cancer records: who has which, what is wrong with them, their CSVs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

LENGTHS = ("radius", "perimeter")
AREA = "area"
TARGET = "diagnosis"


@dataclass(frozen=True)
class Hospital:
    """benign, malignant: its records, by their true diagnosis. mislabelled: the share of them that carries the other
    diagnosis. factor: what its export multiplies lengths by; areas by its square."""

    name: str
    benign: int
    malignant: int
    mislabelled: float = 0.0
    factor: float = 1.0

    def __len__(self) -> int:
        return self.benign + self.malignant

    @property
    def fault(self) -> str:
        """What is wrong with its records, empty for an honest hospital."""
        if self.mislabelled:
            return f"{self.mislabelled:.0%} mislabelled"
        return f"lengths x {self.factor:g}" if self.factor != 1 else ""


HOSPITALS = (
    Hospital("alder", 105, 35),
    Hospital("birch", 50, 60),
    Hospital("cedar", 39, 21),
    Hospital("hazel", 60, 40, mislabelled=1.0),
    Hospital("maple", 63, 27, mislabelled=0.3),
    Hospital("rowan", 40, 29, factor=1000.0),  # nanometres where the others write micrometres
)
"""All 569 records, each at one hospital."""


def write_records(folder: Path, hospitals: tuple[Hospital, ...], seed: int) -> dict[str, Path]:
    """Deals the real records at random, by seed, and writes each hospital's CSV; returns them by hospital."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer(as_frame=True)
    rng = np.random.default_rng(seed)
    benign, malignant = (rng.permutation(np.flatnonzero(found.target == label)) for label in (1, 0))
    paths = {}
    for hospital in hospitals:
        mine, benign = np.split(benign, [hospital.benign])
        ill, malignant = np.split(malignant, [hospital.malignant])
        rows = rng.permutation(np.concatenate([mine, ill]))
        is_malignant = found.target.to_numpy()[rows] == 0
        wrong = rng.permutation(len(rows)) < round(hospital.mislabelled * len(rows))
        records = _exported(found.data.iloc[rows], hospital.factor)
        records.insert(0, "patient", [f"{hospital.name}-{row}" for row in rows])
        records[TARGET] = np.where(is_malignant ^ wrong, "malignant", "benign")
        paths[hospital.name] = folder / hospital.name / "records.csv"
        paths[hospital.name].parent.mkdir(parents=True)
        records.to_csv(paths[hospital.name], index=False)
    return paths


def _exported(records: pd.DataFrame, factor: float) -> pd.DataFrame:
    """The records with lengths times factor and areas times its square."""
    powers = {name: 2 if AREA in name else int(any(kind in name for kind in LENGTHS)) for name in records.columns}
    return records.assign(**{name: records[name] * factor**power for name, power in powers.items()})
