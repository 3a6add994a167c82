"""The task `tabular`: a silo's own CSV or Parquet file, checked and encoded by the schema the federation agreed on."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from fedlaw_flwr.tasks.classification import ClassificationTask
from fedlaw_flwr.tasks.encoding import encode, suspicions
from fedlaw_flwr.tasks.holdout import hold_back
from fedlaw_flwr.tasks.models import mlp
from fedlaw_flwr.tasks.options import Options, read_options
from fedlaw_flwr.tasks.records import Records, find_file, marks, read_file
from fedlaw_flwr.tasks.schema import Schema

_log = logging.getLogger("fedlaw.silo")
_TABS = ("tab", "\\t")


class FileOptions(Options):
    """Which file, and how it is written. missing: texts for no value, separated by commas."""

    file: str = ""
    separator: Annotated[str, Field(pattern=r"^.$"), BeforeValidator(lambda s: "\t" if s in _TABS else s)] = ""
    decimal: Annotated[str, Field(pattern=r"^[.,]$")] = "."
    missing: str = ""
    encoding: str = "utf-8-sig"  # UTF-8, with or without the mark that Excel puts first

    def records(self, data_path: str) -> Records:
        """The records of the file. Raises ValueError."""
        path = find_file(data_path, self.file)
        separator = self.separator or ("\t" if path.suffix.lower() == ".tsv" else ",")
        return Records(path.name, read_file(path, separator, self.encoding), self.decimal, marks(self.missing))


class TabularOptions(FileOptions):
    """The options of the task in silo.yaml."""

    schema_file: Annotated[str, Field(alias="schema", min_length=1)]


def task(data_path: str, options: Mapping[str, str | int | float | bool]) -> ClassificationTask:
    """The silo's task over the file that data-path and the options name: a `tasks.base.SiloTaskFactory`.

    The file is read, checked and encoded here, whole. Raises ValueError, a sentence for each thing that is wrong.
    """
    chosen = read_options(TabularOptions, "tabular", options)
    schema = read_schema(chosen.schema_file, data_path)
    return over_records("tabular", schema, chosen.records(data_path))


def over_records(name: str, schema: Schema, records: Records) -> ClassificationTask:
    """The task over these records: a perceptron of the schema's widths. What looks wrong is logged.

    Raises ValueError, a sentence for each column that is not as the schema says.
    """
    train, test = hold_back(encode(schema, records), schema.test_share, schema.seed)
    noticed = tuple(suspicions(schema, records))
    for said in noticed:
        _log.warning("%s", said)
    return ClassificationTask(
        name,
        num_labels=len(schema.target.classes),
        net=partial(mlp, *schema.widths),
        train=train,
        test=test,
        agreed=schema.description(),
        noticed=noticed,
    )


def read_schema(file: str, data_path: str) -> Schema:
    """The agreed schema: the file as named, or if there is none, the one of this name where the data lies.

    Raises DocumentError, a ValueError, `FILE:LINE: what is wrong`.
    """
    path = Path(file).expanduser()
    if not path.is_file() and data_path:
        data = Path(data_path).expanduser()
        beside = (data if data.is_dir() else data.parent) / path
        path = beside if beside.is_file() else path
    return Schema.read(path)
