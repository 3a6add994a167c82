"""Columns that may say who a person is, by their names and their values: kept out of a draft that leaves a silo."""

import re
import unicodedata
from collections import Counter
from itertools import pairwise


def _split(words: str) -> list[str]:
    return words.split()


# Words of a column's name, as written without accents, and what they say that its cells are.
_WORDS = {
    "a person's name": _split(
        "surname lastname familyname firstname forename givenname fullname middlename maidenname nachname vorname "
        "familienname geburtsname rufname nom prenom apellido apellidos nombre cognome nome sobrenome naam achternaam "
        "efternamn etternavn nazwisko imie patientname "
    ),
    "an identifier": _split(
        "id ids uid uuid guid pid mrn ssn nin npi cpr bsn svnr pesel identifier patientid patientno patientnr "
        "patientennummer patientnummer fallnummer fallnr caseid casenumber recordid accession versichertennummer "
        "krankenversichertennummer kvnr iban passport ausweis username pseudonym "
    ),
    "an address": _split(
        "email mail phone telephone telefon tel fax address adresse anschrift street strasse zip zipcode postcode "
        "postalcode plz hausnummer "
    ),
    "a date of birth": _split("dob birthdate birthday dateofbirth geburtsdatum geburtstag gebdat "),
}
_MEANING = {word: meaning for meaning, words in _WORDS.items() for word in words}
_WHOSE = {
    "patient",
    "last",
    "first",
    "family",
    "given",
    "full",
    "middle",
    "maiden",
    "sur",
    "doctor",
    "physician",
    "arzt",
}
_NUMBERED = {"no", "nr", "num", "number", "nummer", "code"}
_OF_PEOPLE = {
    "patient",
    "case",
    "fall",
    "record",
    "medical",
    "insurance",
    "social",
    "national",
    "personal",
    "versicherten",
}

# The commonest in several countries; two of them in one column are hardly chance.
_NAMES = frozenset(
    _split(
        "[ smith , johnson , williams , brown , jones , miller , davis , garcia , rodriguez , wilson , martinez , "
        "anderson , taylor , thomas , moore , jackson , martin , lee , thompson , white , harris , clark , lewis , "
        "robinson , walker , hall , allen , king , wright , scott , muller , mueller , schmidt , schneider , "
        "fischer , weber , meyer , wagner , becker , schulz , hoffmann , schafer , schaefer , koch , bauer , "
        "richter , klein , wolf , schroder , neumann , schwarz , zimmermann , braun , kruger , hofmann , hartmann , "
        "lange , schmitt , werner , krause , lehmann , schmid , bernard , dubois , durand , moreau , laurent , "
        "simon , michel , lefebvre , leroy , roux , david , bertrand , rossi , russo , ferrari , esposito , bianchi "
        ", romano , colombo , ricci , marino , greco , bruno , gonzalez , fernandez , lopez , sanchez , perez , "
        "gomez , ruiz , hernandez , diaz , alvarez , silva , santos , oliveira , souza , pereira , costa , ferreira "
        ", jansen , devries , bakker , visser , smit , meijer , nowak , kowalski , wisniewski , wojcik , kaminski , "
        "lewandowski , ivanov , smirnov , kuznetsov , popov , petrov , hansen , johansen , olsen , larsen , "
        "andersen , pedersen , nielsen , jensen , johansson , andersson , karlsson , nilsson , eriksson , larsson , "
        "yilmaz , kaya , demir , celik , sahin , yildiz , wang , li , zhang , liu , chen , yang , huang , zhao , wu "
        ", zhou , nguyen , tran , pham , kim , park , choi , sato , suzuki , takahashi , tanaka , singh , kumar , "
        "sharma , patel , khan , james , john , robert , michael , william , mary , patricia , jennifer , linda , "
        "elizabeth , barbara , susan , anna , maria , peter , paul , hans , klaus , wolfgang , jurgen , ursula , "
        "monika , petra , sabine , andreas , stefan , jean , pierre , marie , jose , juan , carmen , giuseppe , "
        "giovanni , mohammed , ahmed , ali , fatima , mehmet , ayse ] "
    )
)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[a-z]{2,}", re.IGNORECASE)
_PHONE = re.compile(r"(?=.*[ ()/+-])\+?[(0-9][0-9 ()/-]{6,}[0-9]")
_WORD = re.compile(r"[^\W\d_]+(?:[ '\u2019-][^\W\d_]+\.?)*(?:, ?[^\W\d_]+(?:[ -][^\W\d_]+)*)?")
# So many different names, or so small a share of the records in values that may be named, and it is no category.
_SEVERAL, _COVERED = 10, 0.6


def says_who(column: str) -> str:
    """What a column's name says about the person it is about.

    Args:
        column: The column's name.

    Returns:
        What it says ("an identifier"); empty where it says nothing.
    """
    plain = _plain(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column))
    words = re.findall(r"[a-z]+", plain)
    joined = {*words, *(one + other for one, other in pairwise(words)), "".join(words)}
    for word in words:
        if word == "name" and (len(words) == 1 or _WHOSE & set(words)):
            return "a person's name"
    if words in (["patient"], ["case"], ["person"]):
        return "an identifier"
    if _NUMBERED & set(words) and _OF_PEOPLE & set(words):
        return "an identifier"
    return next((_MEANING[word] for word in sorted(joined) if word in _MEANING), "")


def names_people(counts: Counter[str]) -> str:
    """Why these values may be people's.

    Args:
        counts: The values, with how many records have each.

    Returns:
        The reason; empty where nothing speaks for it.
    """
    values = list(counts)
    if sum(bool(_EMAIL.fullmatch(value)) for value in values) * 2 > len(values):
        return "it holds e-mail addresses"
    if sum(bool(_PHONE.fullmatch(value)) for value in values) * 2 > len(values):
        return "it holds telephone numbers or the like"
    words = [value for value in values if _WORD.fullmatch(value) and value[0].isupper()]
    if len(words) * 10 < len(values) * 8:
        return ""
    known = sum(any(part in _NAMES for part in _plain(value).replace(",", " ").split()) for value in words)
    if known >= 2 and known * 10 >= len(values):
        return "its values look like people's names"
    rare = sum(count for count in counts.values() if count < 5)
    if len(words) > _SEVERAL and rare > (1 - _COVERED) * counts.total():
        return f"of its {len(values)} different words most are rare, as people's names are"
    return ""


def _plain(text: str) -> str:
    """In small letters without accents."""
    decomposed = unicodedata.normalize("NFD", text.replace("ß", "ss").replace("ł", "l").replace("ø", "o"))
    return "".join(mark for mark in decomposed if not unicodedata.combining(mark)).lower()
