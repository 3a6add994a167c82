"""Which agreed value a cell means, and which one it only resembles: the second is for people to decide."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal, InvalidOperation

from fedlaw_flwr.records.spelling import as_numbers, clean, spell

# As types write truth values: Parquet and pandas; PostgreSQL; SQLite, MySQL and Oracle. The false one first.
_TRUTHS = (("false", "true"), ("f", "t"), ("0", "1"))
_FALSE = frozenset(["false", "f", "no", "n", "0", "nein", "falsch", "non", "faux", "nej", "não", "nao", "нет"])
_TRUE = frozenset(["true", "t", "yes", "y", "1", "ja", "j", "wahr", "oui", "o", "vrai", "si", "sí", "s", "sim", "да"])
_FEMALE = frozenset(
    ["f", "w", "female", "woman", "women", "weiblich", "frau", "femme", "féminin", "mujer", "femenino", "k"]
)
_MALE = frozenset(
    ["m", "male", "man", "men", "männlich", "mann", "homme", "masculin", "hombre", "masculino", "maschio"]
)
SURE = ("other spaces or invisible characters", "other case")
"""What differs between two texts that surely mean the same."""

SYNONYM = "a word for the same"
_DAY = re.compile(r"([0-9]{1,2})([./-])([0-9]{1,2})\2([0-9]{4})")
_MARKS = r"[\s_.,;:/'\"()\[\]]"
_BETWEEN = re.compile(rf"(?<![0-9]){_MARKS}|{_MARKS}(?![0-9])|(?<=[^\W\d])-(?=\w)")


def in_agreed_spelling(texts: Collection[str], agreed: Collection[str]) -> dict[str, str]:
    """Of a column's different texts, those that mean an agreed value.

    A text means an agreed value if it is the same text. It does too if it is the same number, where a number type wrote
    the agreed values. Where the agreed values are a pair of truth values, those of another type mean them: true and
    false, t and f, 1 and 0.

    Args:
        texts: The column's different texts.
        agreed: The agreed values.

    Returns:
        The agreed value of each such text, by text.
    """
    spelled = {value: spell(value) or value for value in agreed}
    numbers = as_numbers(spelled.values())
    means = {numbers.get(text, text): value for value, text in spelled.items()}
    if len(means) < len(agreed):  # two agreed values of one meaning: then nothing but the text can tell them apart
        means = {}
    means |= {value: value for value in agreed}
    found = {text: means[text] for text in texts if text in means}
    return found or _truths(texts, spelled)


def resemblance(text: str, agreed: Iterable[str]) -> tuple[str, str] | None:
    """The agreed value that a person would take this text for, and what differs; None where there is none."""
    values = list(agreed)
    for differs, fold in _FOLDS.items():
        folded = fold(text)
        alike = [value for value in values if folded is not None and fold(value) == folded]
        if len(alike) == 1:
            return alike[0], differs
    for meaning in (truth, sex):
        said = [meaning(value) for value in values]
        if None not in said and meaning(text) is not None and said.count(meaning(text)) == 1:
            return values[said.index(meaning(text))], SYNONYM
    return None


def resemblances(texts: Iterable[str], agreed: Collection[str]) -> dict[str, tuple[str, str]]:
    """The resemblance of each of these texts that has one."""
    found = {text: resemblance(text, agreed) for text in texts}
    return {text: alike for text, alike in found.items() if alike}


def alike(text: str, resembled: tuple[str, str]) -> str:
    """A part of a sentence: "'F' looks like 'f' (other case)"."""
    value, differs = resembled
    return f"{shown(text)} looks like {shown(value)} ({differs})"


def shown(text: str, most: int = 40) -> str:
    """The text in quotes, cut, with every character that cannot be seen written out."""
    cut = text[:most] + ("..." if len(text) > most else "")
    return repr(cut).replace("\u200c", "\\u200c").replace("\u200d", "\\u200d")


def _truths(texts: Collection[str], spelled: Mapping[str, str]) -> dict[str, str]:
    agreed = next((pair for pair in _TRUTHS if {*spelled.values()} == {*pair}), None)
    # A column of f alone may mean the female ones: both letters must be there.
    own = next(
        (pair for pair in _TRUTHS if texts and {*texts} <= {*pair} and (pair[0] != "f" or len(texts) == 2)), None
    )
    if agreed is None or own is None:
        return {}
    value = {text: name for name, text in spelled.items()}
    return {text: value[agreed[own.index(text)]] for text in texts}


def truth(text: str) -> str | None:
    """Whether a word says yes or no, None for another word."""
    word = text.casefold()
    return "true" if word in _TRUE else "false" if word in _FALSE else None


def sex(text: str) -> str | None:
    """Which sex a word is for, None for another word."""
    word = text.casefold()
    return "female" if word in _FEMALE else "male" if word in _MALE else None


def _compatible(text: str) -> str:
    """Without what cannot be seen: joiners, runs of spaces, full-width forms."""
    plain = unicodedata.normalize("NFKC", text).replace("\u200c", "").replace("\u200d", "")
    return " ".join(clean(plain).split())


def _case(text: str) -> str:
    return unicodedata.normalize("NFC", _compatible(text).casefold())


def _number(text: str) -> str | None:
    try:
        value = Decimal(text.replace(",", ".").replace("\u2212", "-"))
    except InvalidOperation:
        return None
    return str(value.normalize()) if value.is_finite() else None


def _day(text: str) -> str | None:
    found = _DAY.fullmatch(text)
    if not found:
        return text if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else None
    day, mark, month, year = found.groups()
    if mark == "/":  # the American order, or not: nobody can say
        return None
    return f"{year}-{int(month):02}-{int(day):02}"


def _letters(text: str) -> str | None:
    """Without what stands between words; what tells numbers, ranges and blood groups apart stays."""
    return _BETWEEN.sub("", _case(text)) or None


def _unaccented(text: str) -> str | None:
    plain = unicodedata.normalize("NFD", _case(text).replace("ß", "ss"))
    return _letters("".join(mark for mark in plain if not unicodedata.combining(mark)))


def _transcribed(text: str) -> str | None:
    pairs = {"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "æ": "ae", "å": "aa"}
    return _unaccented("".join(pairs.get(mark, mark) for mark in _case(text)))


def _misread(text: str) -> str | None:
    """UTF-8 that was read as cp1252, put right."""
    if text.isascii():
        return text
    try:
        return unicodedata.normalize("NFC", text.encode("cp1252").decode("utf-8"))
    except UnicodeError:
        return text


_FOLDS = {
    "other spaces or invisible characters": _compatible,
    "other case": _case,
    "the same number": _number,
    "the same day": _day,
    "other punctuation": _letters,
    "other accents": _unaccented,
    "accents written as letters": _transcribed,
    "read in a wrong encoding": _misread,
}
