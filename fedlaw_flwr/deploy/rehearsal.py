"""A rehearsal: one institution's records dealt to several silos of a federation on its own machine, one mislabelled."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from fedlaw_flwr.core import seeding
from fedlaw_flwr.core.errors import AlreadyThere, InputError
from fedlaw_flwr.records.cells import Records
from fedlaw_flwr.records.encoding import encode
from fedlaw_flwr.records.options import read_options
from fedlaw_flwr.records.schema import Numeric, Schema
from fedlaw_flwr.records.spelling import spell
from fedlaw_flwr.records.tabular import TabularOptions, read_schema
from fedlaw_flwr.silo.check import save_model
from fedlaw_flwr.silo.config import SiloConfig

FEWEST = 20
"""Records a silo of a rehearsal has at least: of fewer, neither a model nor its measure means anything."""


def rehearse(config: SiloConfig, folder: Path, silos: int = 5, mislabelled: int = 1, port: int = 9443) -> Path:
    """Writes a folder with each silo's part of the records, the initial model and federation.yaml.

    The records of `data-path` are dealt at random, with the schema's columns alone, readable by you alone.

    Args:
        config: The silo whose records are dealt.
        folder: The folder to write, which must not exist.
        silos: The number of silos, at least 4.
        mislabelled: How many silos, the last ones, have every class replaced by the next of the schema's, the last by
            the first. This is what the federation should find out.
        port: The port of the federation's server.

    Returns:
        The path of federation.yaml.

    Raises:
        InputError: For a task other than tabular, too few records or too many mislabelled silos.
        AlreadyThere: If the folder exists.
    """
    if config.task != "tabular":
        raise InputError(f"task={config.task!r}: only the records of a tabular silo can be dealt to several")
    most = (silos - 2) // 2
    if silos < 4 or not 0 <= mislabelled <= most:
        raise InputError(
            f"{silos} silos, {mislabelled} of them mislabelled: at least 4 are needed, and 2 b + 2 for b mislabelled"
        )
    options = read_options(TabularOptions, "tabular", config.options)
    schema = read_schema(options.schema_file, config.data_path)
    records = options.with_class(options.records(config.data_path), schema.target.column)
    if len(records) < FEWEST * silos:
        raise InputError(f"{records.source}: {len(records)} records for {silos} silos; {FEWEST} each are needed")
    encode(schema, records)  # what is wrong in the data is said before anything is written
    if folder.exists():
        raise AlreadyThere(f"{folder} is there already; remove it or name another --folder")
    folder.mkdir(mode=0o700, parents=True)
    (folder / "schema.yaml").write_text(schema.written(), encoding="utf-8")
    frame, classes = _as_agreed(schema, records), schema.target.classes
    following = dict(zip(classes, (*classes[1:], classes[0]), strict=True))
    target = frame[schema.target.column].tolist()
    order = seeding.generator(config.seed, "partition").permutation(len(records))
    named: list[dict[str, object]] = []
    for index in range(silos):
        rows = sorted(order[index::silos])
        part = frame.iloc[rows].copy()
        part[schema.target.column] = [
            following[target[row]] if index >= silos - mislabelled else target[row] for row in rows
        ]
        place = folder / "data" / f"silo-{index}"
        place.mkdir(parents=True)
        part.to_csv(place / "records.csv", index=False, encoding="utf-8")
        own = {"schema": str((folder / "schema.yaml").resolve())}
        silo: dict[str, object] = {"name": f"silo-{index}", "task": "tabular"}
        silo |= {"data-path": str(place.resolve()), "options": own}
        named.append({**silo, "mislabelled": True} if index >= silos - mislabelled else silo)
    save_model(folder / "initial.safetensors", "tabular", str(folder / "data" / "silo-0"), own, config.seed)
    told = ", ".join(f"silo-{index}" for index in range(silos - mislabelled, silos)) or "none"
    head = f"# A rehearsal of {config.name} with itself; mislabelled on purpose: {told}.\n"
    (folder / "federation.yaml").write_text(head + _federation(named, mislabelled, port), encoding="utf-8")
    return folder / "federation.yaml"


def _as_agreed(schema: Schema, records: Records) -> pd.DataFrame:
    """The schema's columns (what is not learned from stays away), every cell in its one spelling, empty where there is
    no value: so that a part of a Parquet file, as CSV, means what the file meant."""
    found = {schema.target.column: records.texts(schema.target.column, schema.target.classes)}
    for column in schema.columns:
        if isinstance(column, Numeric):
            found[column.column] = np.array([spell(value) for value in records.numbers(column.column)], dtype=object)
        else:
            found[column.column] = records.texts(column.column, column.values)
    return pd.DataFrame(found, dtype=object)


def _federation(silos: list[dict[str, object]], mislabelled: int, port: int) -> str:
    """federation.yaml of a rehearsal with these silos."""
    run = {
        "task": "own",
        "initial-model": "initial.safetensors",
        "num-rounds": 6,
        "weight-rounds": 3,
        "max-byzantine": max(1, mislabelled),
    }
    superlink = {"host": "localhost", "port": port}
    text: str = yaml.safe_dump(
        {"name": "rehearsal", "superlink": superlink, "run": run, "silos": silos}, sort_keys=False
    )
    return text
