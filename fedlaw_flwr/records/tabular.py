"""The task `tabular`: a silo's own CSV or Parquet file, checked and encoded by the schema the federation agreed on."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.records.cells import Records, marks
from fedlaw_flwr.records.encoding import encode
from fedlaw_flwr.records.files import find_file, read_file
from fedlaw_flwr.records.holdout import hold_back
from fedlaw_flwr.records.options import Options, read_options
from fedlaw_flwr.records.schema import Schema
from fedlaw_flwr.records.suspicions import look
from fedlaw_flwr.tasks.classification import ClassificationTask
from fedlaw_flwr.tasks.models import mlp

_log = logging.getLogger("fedlaw.silo")
_TABS = ("tab", "\\t")


def _one_mark(separator: str) -> str:
    if len(separator) != 1 or separator.isalnum() or separator in "\"'\r\n.-+":
        raise InputError("one character that no cell holds, or tab, is expected")
    return separator


def _point(decimal: str) -> str:
    if decimal not in (".", ","):
        raise InputError("'.' or ',' is expected")
    return decimal


class TableOptions(Options):
    """How cells are written.

    Attributes:
        decimal: The point in numbers that are texts.
        missing: Texts for no value, separated by commas.
        unlabelled: What becomes of records without a class.
    """

    decimal: Annotated[str, AfterValidator(_point)] = "."
    missing: str = ""
    unlabelled: Literal["refuse", "leave-out"] = "refuse"

    def with_class(self, records: Records, target: str) -> Records:
        """The records, without those that have no class where they are to be left out."""
        leave_out = self.unlabelled == "leave-out" and records.has(target)
        return records.labelled(target) if leave_out else records


class FileOptions(TableOptions):
    """Which file, and how it is written."""

    file: str = ""
    separator: Annotated[str, AfterValidator(_one_mark), BeforeValidator(lambda s: "\t" if s in _TABS else s)] = ""
    encoding: str = "utf-8"

    def records(self, data_path: str) -> Records:
        """The records of the file.

        Raises:
            ValueError: For a file that is not there, cannot be read or holds no record.
        """
        path = find_file(data_path, self.file)
        frame = read_file(path, self.separator, self.encoding)
        return Records(path.name, frame, self.decimal, marks(self.missing))


class TabularOptions(FileOptions):
    """The options of the task in silo.yaml."""

    schema_file: Annotated[str, Field(alias="schema", min_length=1)]


def task(data_path: str, options: Mapping[str, str | int | float | bool]) -> ClassificationTask:
    """The silo's task over the file that data-path and the options name: a `tasks.base.SiloTaskFactory`.

    The file is read, checked and encoded here, whole.

    Args:
        data_path: `data-path` in silo.yaml.
        options: `options` in silo.yaml.

    Raises:
        ValueError: A sentence for each thing that is wrong.
    """
    chosen = read_options(TabularOptions, "tabular", options)
    schema = read_schema(chosen.schema_file, data_path)
    return over_records("tabular", schema, chosen.records(data_path), chosen)


def over_records(name: str, schema: Schema, records: Records, options: TableOptions) -> ClassificationTask:
    """The task over these records: a perceptron of the schema's widths.

    What looks wrong is logged.

    Args:
        name: The task's name.
        schema: The agreed schema.
        records: The silo's records.
        options: How the cells are written.

    Raises:
        ValueError: A sentence for each column that is not as the schema says.
    """
    used = options.with_class(records, schema.target.column)
    train, test = hold_back(encode(schema, used), schema.test_share, schema.seed)
    found = look(schema, used)
    noticed = [suspicion.sentence for suspicion in found]
    if len(used) < len(records):
        left_out = f"{len(records) - len(used)} of {len(records)} records have no class and are left out"
        noticed.insert(0, f"{records.source}: column {schema.target.column!r}: {left_out}")
    for said in noticed:
        _log.warning("%s", said)
    return ClassificationTask(
        name,
        num_labels=len(schema.target.classes),
        net=partial(mlp, *schema.widths),
        train=train,
        test=test,
        agreed=schema.description(),
        noticed=tuple(noticed),
        alarms=tuple(suspicion.alarm for suspicion in found),
    )


def read_schema(file: str, data_path: str) -> Schema:
    """The agreed schema.

    Args:
        file: The schema's file. If there is none as named, the one of this name where the data lies is read.
        data_path: Where the data lies.

    Raises:
        DocumentError: A ValueError, `FILE:LINE: what is wrong`.
    """
    path = Path(file).expanduser()
    if not path.is_file() and data_path:
        data = Path(data_path).expanduser()
        beside = (data if data.is_dir() else data.parent) / path
        path = beside if beside.is_file() else path
    return Schema.read(path)
