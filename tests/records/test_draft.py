"""What a draft proposes from the columns people have, and what it leaves out and why."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fedlaw_flwr.cli.schema import schema as commands
from fedlaw_flwr.records.cells import Records, marks
from fedlaw_flwr.records.draft import draft
from fedlaw_flwr.records.identity import names_people, says_who

COUNT = 200
RNG = np.random.default_rng(8)
LAB = [f"{value:.1f}" for value in RNG.gamma(2, 5, COUNT)]


def drafted(missing="", decimal=".", **columns):
    frame = pd.DataFrame({"y": ["ill", "well"] * (COUNT // 2), "age": RNG.integers(20, 90, COUNT), **columns})
    return draft(Records("clinic.csv", frame.astype(object), decimal, marks(missing)), "y")


def note(found, column):
    return "\n".join(said for said in found.notes if f"column {column!r}" in said)


def values(found, column):
    return next((one.values for one in found.schema.categorical if one.column == column), None)


def numeric(found):
    return {one.column for one in found.schema.numeric}


@pytest.mark.parametrize(
    ("spoil", "before", "said"),
    [
        ({"n/a": 7, "-": 3}, "", "95 % of its cells are numbers; the rest are 'n/a' (7), '-' (3): .*-o missing=-,n/a"),
        ({"k.A.": 30}, "NA", "85 % of its cells are numbers; the rest are 'k.A.' (30): .* -o missing=NA,k.A."),
        ({"not done": 4}, "", "-o missing='not done'"),
        ({"<0.5": 9}, "", "the rest are '<0.5' (9): write plain numbers in their place"),
    ],
)
def test_a_column_of_numbers_with_some_texts_names_them_and_the_option(spoil, before, said, tmp_path):
    cells = list(LAB)
    for text, count in spoil.items():
        place = sum(spoil[other] for other in list(spoil)[: list(spoil).index(text)])
        cells[place : place + count] = [text] * count
    found = drafted(missing=before, crp=cells)
    assert "crp" not in numeric(found) and values(found, "crp") is None
    for part in said.split(".*"):
        assert part in note(found, "crp")


def test_the_option_a_draft_names_makes_the_column_one_of_numbers():
    cells = ["n/a", "-"] * 5 + LAB[10:]
    assert "crp" in numeric(drafted(missing="-,n/a", crp=cells))


def test_a_decimal_comma_is_found_also_among_texts():
    cells = ["n/a"] * 10 + [text.replace(".", ",") for text in LAB[10:]]
    assert "set the option decimal (in a shell -o decimal=,)" in note(drafted(crp=cells), "crp")
    assert "-o missing=n/a" in note(drafted(crp=cells), "crp")
    assert "crp" in numeric(drafted(crp=cells, missing="n/a", decimal=","))


def test_numbers_with_a_unit_are_told_from_free_text():
    assert "its cells hold a number and a text ('mg/l'): write the number alone" in note(
        drafted(crp=[f"{text} mg/l" for text in LAB]), "crp"
    )


@pytest.mark.parametrize(
    ("cells", "kept", "said"),
    [
        (
            ["M", "W", "m", "w", "weiblich"],
            {"M", "W"},
            ["'w' looks like 'W' (other case)", "'weiblich' looks like 'W'"],
        ),
        (["Male", "female", "f", "MALE", "male"], {"MALE", "f"}, ["a word for the same", "other case"]),
        (["yes", "no", "ja", "nein"], {"ja", "nein"}, ["'yes' looks like 'ja' (a word for the same)"]),
        (["stage I", "stage  I", "stage II"], {"stage  I", "stage II"}, ["other spaces or invisible characters"]),
        (["left", "LEFT", "right"], {"LEFT", "right"}, ["'left' looks like 'LEFT' (other case)"]),
        (["250.1", "250.10", "V27"], {"250.1", "250.10", "V27"}, ["'250.10' looks like '250.1' (the same number)"]),
        (["arm", "a", "back"], {"arm", "a", "back"}, ["'a' may be 'arm' (the same first letter)"]),
        (["A", "B", "C"], {"A", "B", "C"}, []),
        (["no", "yes"], {"no", "yes"}, []),
        (["A", "F", "M", "W"], {"A", "F", "M", "W"}, []),
    ],
)
def test_spellings_of_one_category_are_one_category_and_told(cells, kept, said):
    found = drafted(c=(cells * COUNT)[:COUNT])
    assert set(values(found, "c")) == kept
    assert all(part in note(found, "c") for part in said)
    assert bool(said) == bool(note(found, "c"))


def test_classes_spelled_twice_are_told():
    frame = pd.DataFrame({"y": ["yes", "no", "Yes", "no"] * 20, "age": range(80), "dose": [1.5, 2.25, 3, 4] * 20})
    assert "spell one class alike in the data" in note(draft(Records("clinic.csv", frame), "y"), "y")


def test_cells_without_a_class_are_counted_with_the_row_and_the_option():
    frame = pd.DataFrame({"y": ["yes", "no", None, ""] * 20, "age": range(80)})
    with pytest.raises(ValueError) as found:
        draft(Records("clinic.csv", frame), "y")
    assert "column 'y' has no value in row 3 and 39 more" in str(found.value)
    assert "-o unlabelled=leave-out" in str(found.value) and "these 40 of 80" in str(found.value)


SURNAMES = ["Müller", "Schmidt", "Nowak", "García", "Rossi", "Kaya", "Öztürk", "Ivanov", "Nguyen", "Meyer", "O'Brien"]
FIRST_TOWNS = ["Aachen", "Bonn", "Chur", "Köln", "Ulm"]


@pytest.mark.parametrize(
    ("name", "cells", "said"),
    [
        ("Nachname", SURNAMES, "its name says that it is a person's name"),
        ("last_name", FIRST_TOWNS, "its name says that it is a person's name"),
        ("patientName", FIRST_TOWNS, "its name says that it is a person's name"),
        ("column 7", SURNAMES, "its values look like people's names"),
        ("behandelt von", [f"Dr. {name}" for name in SURNAMES[:4]] + ["Hans Meyer", "Anna Koch"], ""),
        ("Patient-ID", [f"{number}" for number in range(40)], "its name says that it is an identifier"),
        ("case number", [str(1000 + number) for number in range(60)], "its name says that it is an identifier"),
        ("contact", [f"p{number}@clinic.example" for number in range(30)], "it holds e-mail addresses"),
        ("call", [f"+49 241 80-{number}" for number in range(1000, 1030)], "it holds telephone numbers"),
        ("PLZ", [f"{number:05}" for number in range(1067, 1107)], "its name says that it is an address"),
        ("Geburtsdatum", [f"19{number}-01-01" for number in range(40, 60)], "date"),
    ],
)
def test_columns_that_may_say_who_a_person_is_are_left_out_and_told(name, cells, said):
    found = drafted(**{name: (cells * COUNT)[:COUNT]})
    assert said in note(found, name)
    if said:
        assert name not in numeric(found) and values(found, name) is None
        assert "is left out" in note(found, name)


@pytest.mark.parametrize(
    "name", ["stage", "covid", "ward_id", "drug name", "patient age", "number of births", "identity"]
)
def test_names_of_other_columns_say_nothing_about_people(name):
    assert name == "ward_id" or says_who(name) == ""
    found = drafted(**{name: ["1", "2"] * (COUNT // 2)})
    assert values(found, name) == ("1", "2")


def test_places_and_diagnoses_are_categories():
    assert values(drafted(city=(FIRST_TOWNS * COUNT)[:COUNT]), "city") == tuple(sorted(FIRST_TOWNS))
    assert names_people({"Sepsis": 50, "Pneumonia": 40, "Stroke": 30}) == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x" * 250, "its name has over 200 or unprintable characters"),
        ("bell\x07", "its name has over 200 or unprintable characters"),
        ("", "the column at place 3 has no name in the header and is left out"),
    ],
)
def test_an_odd_header_does_not_stop_a_draft(name, said):
    found = drafted(**{name: ["a", "b"] * (COUNT // 2)})
    assert numeric(found) == {"age"} and not found.schema.categorical
    assert any(said in one for one in found.notes)


def test_odd_values_do_not_stop_a_draft():
    found = drafted(c=["z" * 300, "q", "bell\x07", "r"] * (COUNT // 4), lists=[[1]] * COUNT)
    assert values(found, "c") == ("q", "r")
    assert "2 values of over 200 or of unprintable characters are not listed" in note(found, "c")
    assert "row 1 holds a list" in note(found, "lists")
    with pytest.raises(ValueError, match="a class has at most 200 characters, all printable"):
        draft(Records("clinic.csv", pd.DataFrame({"y": ["z" * 300, "q"] * 50, "age": range(100)})), "y")


def test_long_whole_numbers_are_codes_and_codes_with_leading_zeros_are_texts():
    found = drafted(
        snomed=[900000000000207008 + row % 3 for row in range(COUNT)],
        many=[900000000000207008 + row % 70 for row in range(COUNT)],
        centre=[f"{row % 20:03}" for row in range(COUNT)],
    )
    assert values(found, "snomed") == tuple(str(900000000000207008 + place) for place in range(3))
    assert "70 different whole numbers of 16 digits" in note(found, "many")
    assert len(values(found, "centre")) == 20 and numeric(found) == {"age"}


def test_a_draft_of_a_windows_file_with_odd_headers_passes_the_command(tmp_path):
    rows = "\r\n".join(f"{row};{40 + row % 30};{'ja' if row % 3 else 'nein'};;" for row in range(60))
    text = f'\ufeffsep=;\r\nNr;"Alter\r\n(Jahre)";Rückfall\u00a0;;\r\n{rows}\r\n;;;;\r\n'
    (tmp_path / "export.csv").write_text(text, encoding="utf-8", newline="")
    done = CliRunner().invoke(commands, ["draft", str(tmp_path / "export.csv"), "--target", "Rückfall"])
    assert done.exit_code == 0, done.output
    assert "- column: Alter (Jahre)" in done.stdout or "column: Alter (Jahre)" in done.stdout
    assert "classes: [ja, nein]" in done.stdout


def test_a_draft_of_a_parquet_file_and_of_its_csv_are_the_same_text(tmp_path):
    count = 90
    frame = pd.DataFrame(
        {
            "grade": pd.array([None if row % 9 == 0 else 1 + row % 3 for row in range(count)], dtype="Int64"),
            "smoker": [None if row % 11 == 0 else bool(row % 2) for row in range(count)],
            "age": RNG.normal(60, 9, count),
            "y": ["a", "b", "b"] * 30,
        }
    )
    frame.to_parquet(tmp_path / "clinic.parquet")
    frame.astype({"grade": "float64"}).to_csv(tmp_path / "clinic.csv", index=False)
    assert "\n2.0,True," in (tmp_path / "clinic.csv").read_text()
    done = [
        CliRunner().invoke(commands, ["draft", str(tmp_path / name), "--target", "y"])
        for name in ("clinic.parquet", "clinic.csv")
    ]
    assert [one.exit_code for one in done] == [0, 0] and done[0].stdout == done[1].stdout
    assert "values: ['1', '2', '3']" in done[0].stdout and "values: ['false', 'true']" in done[0].stdout
