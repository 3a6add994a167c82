"""The one spelling of what a cell means: the same from CSV, from Parquet and from a query."""

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

# Marks of writing direction, soft hyphens, zero-width spaces: nobody sees them, and they make equal names differ.
_INVISIBLE = {0xAD: None, 0x61C: None, 0x200B: None, 0x200E: None, 0x200F: None, 0x2060: None, 0xFEFF: None} | {
    code: None for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
# Zero-width joiners belong to some scripts inside a word, and to none at its ends.
_ENDS = " \u200c\u200d"
_SPACE = re.compile(r"\r\n|[^\S ]")
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r"(?: ?(Z|[+-][0-9]{2}(?::?[0-9]{2})?))?"
)
# As number types write themselves: no leading zero, an exponent with its sign and two digits.
_PLAIN = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.([0-9]+))?|\.([0-9]+))(?:e[+-][0-9]{2,3})?")
# Digits after which a number is written with an exponent.
_WRITTEN_OUT = 40


def clean(text: str) -> str:
    """The text as people read it.

    It is composed (Unicode NFC) and without invisible characters. Every blank is a plain space, and none is at the
    ends.
    """
    if text.isascii() and text.isprintable():
        return text.strip()
    seen = unicodedata.normalize("NFC", text.translate(_INVISIBLE))
    return _SPACE.sub(" ", seen).strip(_ENDS)


def spell(cell: Any) -> str | None:
    """The cell's one spelling.

    - numbers: 1 for 1.0 and 1.00, 0.1 for a float32 of 0.1; whole numbers and decimals exact, whatever their length;
    - truth values: true, false, also for the texts True and TRUE;
    - days: 2024-01-31, also for midnight of that day without a time zone; other moments: 2024-01-31 10:30:00, and with
      a time zone the moment in UTC, 2024-01-31 09:30:00+00:00;
    - texts, and what else has a text: see `clean`. A text that looks like a number stays as it is: see `as_numbers`.

    Returns:
        The text; None where the cell holds no value (empty, NULL, NaN, NaT).

    Raises:
        TypeError: For what has no one text: lists, mappings, bytes that are no UTF-8.
    """
    if isinstance(cell, str):
        return _text(cell)
    # pandas' NA and NaT by name: the server reads a schema where pandas need not be installed.
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if isinstance(cell, int | np.integer):
        return str(int(cell))
    if isinstance(cell, float | np.floating | Decimal):
        return None if cell != cell else number(str(cell))
    if isinstance(cell, datetime):
        at = cell.astimezone(UTC) if cell.tzinfo else cell  # zones of old days are off by seconds, which ISO has not
        return moment(at.isoformat(sep=" ")) or str(cell)
    if isinstance(cell, np.datetime64):
        return None if np.isnat(cell) else _text(str(cell))
    if isinstance(cell, date):
        return cell.isoformat()
    if isinstance(cell, time):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        hours, seconds = divmod(cell.seconds, 3600)
        fraction = f".{cell.microseconds:06}".rstrip("0") if cell.microseconds else ""
        return f"{cell.days} days {hours:02}:{seconds // 60:02}:{seconds % 60:02}{fraction}"
    if isinstance(cell, bytes | bytearray | memoryview):
        try:
            return _text(bytes(cell).decode())
        except UnicodeDecodeError:
            raise TypeError("bytes that are no text") from None
    if isinstance(cell, list | tuple | dict | set | frozenset | np.ndarray):
        raise TypeError("a mapping" if isinstance(cell, dict) else "a list")
    return _text(str(cell))


def moment(text: str) -> str | None:
    """A day or moment in ISO 8601, in its one spelling; None where the text is none."""
    found = _MOMENT.fullmatch(text)
    if not found:
        return None
    day, minutes, seconds, fraction, zone = found.groups()
    try:
        at = datetime.fromisoformat(f"{day} {minutes}:{seconds or '00'}{_offset(zone)}")
        at = at.astimezone(UTC) if zone else at
    except (ValueError, OverflowError):  # 31 February; the first hours of year 1 in another zone
        return None
    fraction = (fraction or "").rstrip("0")
    if not zone and not fraction and at.time() == time():
        return day
    return f"{at:%Y-%m-%d %H:%M:%S}".rjust(19, "0") + (f".{fraction}" if fraction else "") + ("+00:00" if zone else "")


def number(text: str) -> str:
    """The one spelling of the number that `Decimal` reads: digits without a needless zero or point; exact."""
    value = Decimal(text)
    if not value.is_finite():
        return str(value).lower()
    if not value:
        return "0"
    if abs(value.adjusted()) <= _WRITTEN_OUT:
        written = format(value, "f")
        return written.rstrip("0").rstrip(".") if "." in written else written
    sign, digits, _ = value.as_tuple()
    kept = "".join(map(str, digits)).rstrip("0")
    return f"{'-' * sign}{kept[0]}{'.' * (len(kept) > 1)}{kept[1:]}e{value.adjusted():+03}"


def as_numbers(texts: Iterable[str], decimal: str = ".") -> dict[str, str]:
    """The spelling as numbers of a column's texts, if a number type wrote them all.

    A number type wrote them if none has a leading zero and one of three things holds. All have as many decimals (2.50,
    1.00); or each is as short as it can be (2.5, 1); or each is as Python writes floating-point numbers (2.5, 1.0).
    Codes like 250.1 beside 250.10 are none of these and stay texts.

    Args:
        texts: The column's texts.
        decimal: The point in them.

    Returns:
        The spelling of each text, by text; empty if no number type wrote them all.
    """
    distinct = set(texts)
    if decimal == ",":
        pointed = {text: text.replace(",", ".") for text in distinct if "." not in text}
    else:
        pointed = {text: text for text in distinct}
    found = [_PLAIN.fullmatch(text) for text in pointed.values()]
    if len(pointed) < len(distinct) or not all(found):
        return {}
    decimals = [match[1] or match[2] or "" for match in found if match]
    same = len({len(digits) for digits in decimals}) == 1
    shortest = not any(digits.endswith("0") for digits in decimals)
    if same or shortest or all(repr(float(text)) == text for text in pointed.values()):
        return {text: number(point) for text, point in pointed.items()}
    return {}


def _text(text: str) -> str | None:
    text = clean(text)
    if not text:
        return None
    if len(text) <= 5 and text.lower() in ("true", "false"):
        return text.lower()
    return (moment(text) or text) if text[4:5] == "-" and text[:4].isdigit() else text


def _offset(zone: str | None) -> str:
    """The zone as `datetime.fromisoformat` reads it."""
    if not zone or zone == "Z":
        return "+00:00" if zone else ""
    digits = zone[1:].replace(":", "")
    return f"{zone[0]}{digits[:2]}:{digits[2:] or '00'}"
