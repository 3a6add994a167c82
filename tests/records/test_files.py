"""A table's file as people export it: read right with the odd things of spreadsheets, or one sentence with the row."""

import unicodedata

import pandas as pd
import pytest

from fedlaw_flwr.records.cells import Records
from fedlaw_flwr.records.files import read_file
from fedlaw_flwr.records.options import read_options
from fedlaw_flwr.records.tabular import FileOptions


@pytest.fixture
def table(tmp_path):
    """Writes a file and reads it: its columns and its rows."""

    def read(content, name="clinic.csv", **options):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        records = Records(name, read_file(tmp_path / name, **options))
        return records.columns, [list(row) for row in zip(*map(records.texts, records.columns), strict=True)]

    return read


WELL = (["age", "outcome"], [["61", "ill"], ["58", "well"]])


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("age;outcome\n61;ill\n58;well\n", {"separator": ";"}),
        ("sep=;\nage;outcome\n61;ill\n58;well\n", {}),
        ("sep=;\r\nage;outcome\r\n61;ill\r\n58;well\r\n", {"separator": ";"}),
        ('\ufeff"SEP=|"\nage|outcome\n61|ill\n58|well\n', {}),
        ("\ufeffage,outcome\n61,ill\n58,well\n", {"encoding": "utf-8"}),
        ("\ufeffage,outcome\n61,ill\n58,well\n", {"encoding": "UTF8"}),
        ("\ufeffage,outcome\n61,ill\n58,well\n", {"encoding": "utf-8-sig"}),
        ("age,outcome\n61,ill\n58,well\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("age;outcome;;\n61;ill;;\n58;well;;\n", {"separator": ";"}),
        ("age;outcome\n61;ill;;;\n58;well;\n", {"separator": ";"}),
        ("age;outcome;\n61;ill\n58;well\n", {"separator": ";"}),
        ("age,outcome\n\n61,ill\n,\n58,well\n,\n , \n", {}),
        ("age,outcome\r61,ill\r58,well\r", {}),
        ('age, "outcome"\n61, "ill"\n58, "well"\n', {}),
        (" age\u00a0,\u200boutcome\n61 ,ill\u00a0\n58,\ufeffwell\n", {}),
        ("age,,outcome\n61,0,ill\n58,1,well\n", {}),
    ],
)
def test_what_spreadsheets_add_changes_nothing(content, options, table):
    assert table(content, **options) == WELL


def test_a_header_with_a_line_break_or_another_space_is_one_line_of_plain_spaces(table):
    columns, _ = table('"Alter\n(Jahre)","Größe\u202fin\u00a0cm",y\n61,170,ill\n')
    assert columns == ["Alter (Jahre)", "Größe in cm", "y"]


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ('a,b,c\n1,x,1\n2,"x,1\n3,x,1\n', {}, r'a quote \("\) in row 2 \(line 3\) is never closed'),
        ('sep=,\na,b,c\n\n1,x,1\n2,"x,1\n3,x,1\n', {}, r'a quote \("\) in row 2 \(line 5\) is never closed'),
        ('a,"b,c\n1,x,1\n', {}, r'a quote \("\) in the header \(line 1\) is never closed'),
        ('a,b,c\n1,"x\ny",1\n2,"x,1\n' + "3,x,1\n" * 40000, {}, r"in row 2 \(line 4\) is never closed"),
        ('a,b,c\n1,"x,1\n2,"x",1\n', {}, r"in row 1 \(line 2\) a text goes on behind its closing quote"),
        ('a,b,c\n1,"x,1\n2,x,1\n3,x",1\n', {}, r"row 1 \(line 2\) has rows within its column 'b': a quote"),
        ("age;y\n61;1,5\n", {}, r"row 1 has 2 cells, the header has 1 \(line 2\)|its one column is 'age;y'"),
        (
            "age, in years;y\n61;1\n",
            {},
            r"row 1 has 1 cells, the header has 2 \(line 2\); set the option separator, ';'",
        ),
        (
            "age,y\n61,5,1\n",
            {},
            "has 3 cells, the header has 2 .*a cell that holds the separator ',' must stand in quotes",
        ),
        ("Report\nage,y\n61,1\n", {}, "the first line must be the columns' names, with nothing above"),
        (
            "sep=;\nage;y\n61;1\n",
            {"separator": ","},
            "its first line says that the separator is ';', the option that it is",
        ),
        (
            "größe,y\n1,a\n",
            {"encoding": "cp1252"},
            "it is written in UTF-8, and cp1252 would misread it; leave the option",
        ),
        (
            "größe,y\n1,a\n".encode("cp1252"),
            {},
            r"it is not written in utf-8 \(line 1\); set the option encoding \(cp1252",
        ),
        ("age,y\n1,a\n".encode("utf-16"), {}, "it is not written in utf-8 but in utf-16; set the option encoding"),
        ("age,y\n1,a\n".encode("utf-16-le"), {}, "it holds zero bytes; .*utf-16 perhaps"),
        (b"PK\x03\x04\x14", {}, "it is an Excel workbook or a zip archive: save it as CSV"),
        (b"PAR1\x15", {}, r"it is a Parquet file: let its name end in \.parquet"),
        ("age,y\n1,a\n", {"encoding": "rot13"}, "encoding='rot13': there is no such encoding"),
    ],
)
def test_what_cannot_be_read_right_is_one_sentence_with_the_row_and_the_line(content, options, said, table):
    with pytest.raises(ValueError, match=said) as found:
        table(content, **options)
    assert len(str(found.value).splitlines()) == 1 and "Error" not in str(found.value)


def test_cells_of_several_lines_are_read(table):
    assert table('a,b,c\n1,"x\ny, z",1\n2,"""q""",1\n')[1] == [["1", "x y, z", "1"], ["2", '"q"', "1"]]


def test_a_column_without_a_name_that_holds_something_is_known_by_its_place(tmp_path):
    pd.DataFrame({"age": [1, 2], "y": ["a", "b"]}).to_csv(tmp_path / "indexed.csv")
    records = Records("indexed.csv", read_file(tmp_path / "indexed.csv"))
    assert records.columns == ["age", "y"] and records.unnamed == (1,)


def test_a_hidden_file_of_another_system_is_not_the_table(tmp_path):
    (tmp_path / "._clinic.csv").write_bytes(b"\0\5\x16\7")
    (tmp_path / "clinic.csv").write_text("age\n61\n")
    assert FileOptions().records(str(tmp_path)).source == "clinic.csv"


def test_a_files_name_is_found_however_its_letters_are_stored(tmp_path):
    (tmp_path / unicodedata.normalize("NFD", "kläger.csv")).write_text("age\n61\n")
    (tmp_path / "other.csv").write_text("age\n61\n")
    assert len(FileOptions(file="kläger.csv").records(str(tmp_path))) == 1


def test_a_workbook_is_named_as_such(tmp_path):
    (tmp_path / "clinic.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"its name must end in \.csv.*; save the sheet as CSV"):
        FileOptions().records(str(tmp_path / "clinic.xlsx"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"separator": '"'}, "option separator='\"': one character that no cell holds, or tab, is expected"),
        ({"separator": "a"}, "option separator='a': one character"),
        ({"decimal": ";"}, "option decimal=';': '.' or ',' is expected"),
        ({"missing": False}, "option missing=False: one text is expected: put it in quotes"),
        (
            {"missing": ["NA", "-"]},
            "option missing=.*: one text is expected: put it in quotes, several separated by commas",
        ),
        ({"unlabelled": "drop"}, "option unlabelled='drop': input should be 'refuse' or 'leave-out'"),
    ],
)
def test_a_wrong_option_says_what_is_expected(options, said):
    with pytest.raises(ValueError, match=said):
        read_options(FileOptions, "tabular", options)


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_records_without_a_class_are_left_out_on_demand_and_keep_their_numbers(name, tmp_path, caplog):
    from fedlaw_flwr.records.task import load_silo_task

    frame = pd.DataFrame({"age": ["61", "62", "63", "64"], "y": ["a", None, "b", None]})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet")
    schema = "target: {column: y, classes: [a, b]}\nnumeric:\n- {column: age, center: 60, scale: 10}\ntest-share: 0\n"
    (tmp_path / "schema.yaml").write_text(schema)
    said = r"column 'y' has no value in row 2 and 1 more; .*option unlabelled=leave-out leaves out these 2 of 4"
    with pytest.raises(ValueError, match=said):
        load_silo_task("tabular", str(tmp_path / name), {"schema": "schema.yaml"})
    options = {"schema": "schema.yaml", "unlabelled": "leave-out"}
    task = load_silo_task("tabular", str(tmp_path / name), options)
    assert len(task.load_train()) == 2
    assert "2 of 4 records have no class and are left out" in task.suspicions()[0] and "left out" in caplog.text
    frame.assign(age=["61", "62", "old", "64"]).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(ValueError, match="column 'age' row 3 is 'old'"):
        load_silo_task("tabular", str(tmp_path / "rows.csv"), options)
