"""The file of an institution's records: which one it is, and the table in it, from CSV or Parquet."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.records.spelling import clean

SUFFIXES = (".csv", ".tsv", ".parquet")

# How files begin that are no text, and what to do with them.
_NO_TEXT = {
    b"PK\x03\x04": "it is an Excel workbook or a zip archive: save it as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "it is an old Excel workbook: save it as CSV (UTF-8)",
    b"\x1f\x8b": "it is compressed: unpack it with gunzip",
    b"PAR1": "it is a Parquet file: let its name end in .parquet",
}
_WIDE = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# The line by which Excel knows the separator of a CSV.
_SEP = re.compile(r'\ufeff?"?sep=(.)"?[ \t]*(?:\r\n|\r|\n|$)', re.IGNORECASE)


def find_file(data_path: str, file: str) -> Path:
    """The one file of records.

    Args:
        data_path: The file itself, or the folder it lies in.
        file: The file's name in that folder; "" for the only one there.

    Raises:
        ValueError: Where data_path is missing or no such file is there, where not exactly one could be meant, and for a
            file of another ending.
    """
    if not data_path:
        raise InputError("data-path is missing: a CSV or Parquet file, or the folder it lies in")
    path = Path(data_path).expanduser()
    if path.is_file():
        if file and path.name != file:
            raise InputError(f"data-path={data_path!r} is a file, and file={file!r} another: name one of them")
        found = path
    elif not path.is_dir():
        raise InputError(f"data-path={data_path!r}: there is no such file or folder")
    elif file:
        # A Mac stores the letters of names in another way: the name is looked for as people read it.
        found = next((inner for inner in path.iterdir() if clean(inner.name) == clean(file)), path / file)
        if not found.is_file():
            raise InputError(f"file={file!r}: there is no such file in data-path={data_path!r}")
    else:
        files = sorted(inner for inner in path.iterdir() if inner.suffix.lower() in SUFFIXES and inner.is_file())
        files = [inner for inner in files if not inner.name.startswith(".")]  # what other systems leave behind
        if len(files) != 1:
            there = ", ".join(inner.name for inner in files) or f"no {', '.join(SUFFIXES)}"
            raise InputError(f"data-path={data_path!r}: one file is expected and there is {there}; name it: file")
        (found,) = files
    if found.suffix.lower() not in SUFFIXES:
        hint = "; save the sheet as CSV (UTF-8)" if found.suffix.lower() in (".xlsx", ".xls", ".ods") else ""
        raise InputError(f"{found.name}: its name must end in {', '.join(SUFFIXES)}{hint}")
    return found


def read_file(path: Path, separator: str = "", encoding: str = "utf-8") -> pd.DataFrame:
    """The table in a CSV (all cells as text) or Parquet file.

    Args:
        path: The file.
        separator: What stands between the cells of a CSV. "" for what the file's own first line says (`sep=;`) or,
            where it says nothing, a tab in .tsv and else a comma.
        encoding: The encoding of a CSV.

    Raises:
        ValueError: For a file that cannot be read, an encoding there is not, and a separator that the file's own first
            line contradicts.
    """
    if path.suffix.lower() == ".parquet":
        return _parquet(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name}: it cannot be read: {error.strerror}") from None
    text = _decoded(path.name, data, encoding)
    first = _SEP.match(text)
    if first and separator and first[1] != separator:
        raise InputError(
            f"{path.name}: its first line says that the separator is {first[1]!r}, the option that it is {separator!r}"
        )
    separator = separator or (first[1] if first else "\t" if path.suffix.lower() == ".tsv" else ",")
    return _table(path.name, text[first.end() :] if first else text, separator, 1 if first else 0)


def _parquet(path: Path) -> pd.DataFrame:
    """The table with the types it was written in: pandas' own would make floats of whole numbers with a NULL."""
    import pyarrow.parquet as parquet

    try:
        # Of this file alone: a folder named site=3 is no column. And without pandas' notes: an index is a column.
        table = parquet.ParquetFile(path).read()
        frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
    except Exception as error:  # pyarrow raises what it likes
        raise InputError(f"{path.name}: it cannot be read: {' '.join(str(error).split())[:200]}") from None
    unnamed = [name for name in frame.columns if re.fullmatch(r"__index_level_[0-9]+__", str(name))]
    return frame.drop(columns=unnamed)


def _decoded(name: str, data: bytes, encoding: str) -> str:
    for beginning, what in _NO_TEXT.items():
        if data.startswith(beginning):
            raise InputError(f"{name}: {what}")
    try:
        codec = codecs.lookup(encoding).name
        "".encode(codec)
    except (LookupError, ValueError):
        raise InputError(f"encoding={encoding!r}: there is no such encoding; try utf-8 or cp1252") from None
    utf8 = not codec.startswith("utf") and not data.isascii() and _is_utf8(data)
    wide = next((wide for mark, wide in _WIDE.items() if data.startswith(mark)), None)
    if wide and not codec.startswith(wide):
        raise InputError(f"{name}: it is not written in {encoding} but in {wide}; set the option encoding to {wide}")
    if b"\0" in data and not codec.startswith(("utf-16", "utf-32")):
        raise InputError(f"{name}: it holds zero bytes; it is no table, or written in another encoding: utf-16 perhaps")
    try:
        # With or without the mark that Excel puts first.
        text = data.decode("utf-8-sig" if codec == "utf-8" else codec)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        if utf8:
            raise InputError(
                f"{name}: it is not written in {encoding} but in UTF-8; leave the option encoding out"
            ) from None
        raise InputError(
            f"{name}: it is not written in {encoding} (line {line}); set the option encoding (cp1252 for many from "
            "Windows)"
        ) from None
    if utf8:
        raise InputError(
            f"{name}: it is written in UTF-8, and {encoding} would misread it; leave the option encoding out"
        )
    return text


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class _Row:
    """A line of the table: its cells, and the line of the file on which it starts."""

    cells: list[str]
    line: int


def _table(name: str, text: str, separator: str, skipped: int) -> pd.DataFrame:
    """The rows under the names of the first. Lines without anything in a cell are skipped, as are the empty cells with
    which a line ends beyond the header. skipped: lines of the file before the text."""
    rows = list(_rows(name, text, separator, skipped))
    if not rows:
        raise InputError(f"{name}: it is empty; a first line with the columns' names is expected")
    header = rows[0].cells
    while len(header) > 1 and not header[-1].strip():
        last = len(header) - 1
        if any(len(row.cells) > last and row.cells[last].strip() for row in rows[1:]):
            break
        header.pop()
    other = next((mark for mark in ";\t,|" if mark != separator and mark in header[0]), None)
    if len(header) == 1 and other:
        raise InputError(
            f"{name}: its one column is {header[0].strip()[:40]!r}; set the option separator, {other!r} perhaps (in a "
            f"shell -o separator='{other}')"
        )
    for place, row in enumerate(rows[1:], start=1):
        while len(row.cells) > len(header) and not row.cells[-1].strip():
            row.cells.pop()
        # A file cut short or a stray separator would shift values under other columns' names.
        if len(row.cells) != len(header):
            raise InputError(f"{name}: {_mismatch(place, row, rows[0], separator)}")
        _refuse_swallowed(name, place, row, header, separator)
    return pd.DataFrame([row.cells for row in rows[1:]], columns=header, dtype=object)


def _rows(name: str, text: str, separator: str, skipped: int) -> Iterator[_Row]:
    """The lines in which there is something. Raises ValueError, naming the row, where a quote goes wrong."""
    lines, spaced = io.StringIO(text, newline=""), separator != " "
    reader, place = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=spaced), 0
    while True:
        line = skipped + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            where = f"row {place}" if place else "the header"
            what = str(error)
            if "unexpected end" in what or "limit" in what:
                what = (
                    f'a quote (") in {where} (line {line}) is never closed; close it, or write it twice ("") if meant'
                )
            else:
                what = (
                    f'in {where} (line {line}) a text goes on behind its closing quote ("): one is missing or too many'
                )
            raise InputError(f"{name}: it cannot be read: {what}") from None
        if any(cell.strip() for cell in cells):
            yield _Row(cells, line)
            place += 1


def _mismatch(place: int, row: _Row, header: _Row, separator: str) -> str:
    said = f"row {place} has {len(row.cells)} cells, the header has {len(header.cells)} (line {row.line})"
    joined, whole = separator.join(header.cells), separator.join(row.cells)
    for mark in ";\t|,":
        if mark != separator and joined.count(mark) == whole.count(mark) > 0:
            return f"{said}; set the option separator, {mark!r} perhaps"
    if len(header.cells) == 1:
        return f"{said}; the first line must be the columns' names, with nothing above"
    if len(row.cells) > len(header.cells):
        return f"{said}; a cell that holds the separator {separator!r} must stand in quotes"
    return said


def _refuse_swallowed(name: str, place: int, row: _Row, header: list[str], separator: str) -> None:
    """Raises ValueError where a cell of several lines holds what look like rows: a quote was left open, another closed
    it, and the rows between would be lost."""
    for column, cell in zip(header, row.cells, strict=True):
        if "\n" not in cell:
            continue
        inner = cell.splitlines()[1:-1]
        if len(header) > 2 and any(line.count(separator) == len(header) - 1 for line in inner):
            where = f"{name}: row {place} (line {row.line})"
            raise InputError(f'{where} has rows within its column {column.strip()!r}: a quote (") that is not closed?')
