"""Records from a database: the same as from a file; one statement that reads; and a password that is never told."""

import logging
import sqlite3
import traceback

import pytest
import sqlalchemy

from fedlaw_flwr.records.sql import checked
from fedlaw_flwr.records.task import load_silo_task

SCHEMA = """\
target: {column: relapse, classes: ["0", "1"]}
numeric:
- {column: age, center: 60, scale: 10, missing: indicator}
categorical:
- {column: sex, values: [f, m], missing: slot}
test-share: 0
"""
CSV = "age,sex,relapse\n70,f,1\n,m,0\n55,,0\n60.5,m,1\n"
PASSWORD = "hunter2"


@pytest.fixture
def database(tmp_path):
    """A folder with a database of four patients, the schema, and the same patients in a CSV."""
    (tmp_path / "schema.yaml").write_text(SCHEMA)
    (tmp_path / "patients.csv").write_text(CSV)
    with sqlite3.connect(tmp_path / "clinic.db") as connection:
        connection.execute("CREATE TABLE patients (age REAL, sex TEXT, relapse INTEGER)")
        rows = [(70, "f", 1), (None, "m", 0), (55, None, 0), (60.5, "m", 1)]
        connection.executemany("INSERT INTO patients VALUES (?, ?, ?)", rows)
    connection.close()
    return tmp_path


def make(folder, query="SELECT * FROM patients", **options):
    url = {"url": f"sqlite:///{folder / 'clinic.db'}"} if not {"url", "url-env"} & set(options) else {}
    return load_silo_task("sql", str(folder), {"schema": "schema.yaml", "query": query, **url, **options})


def rows_of(task):
    train = task.load_train()
    return [(*map(float, x), float(y)) for x, y in zip(train.inputs, train.targets, strict=True)]


def count(folder):
    connection = sqlite3.connect(folder / "clinic.db")
    (found,) = connection.execute("SELECT count(*) FROM patients").fetchone()
    connection.close()
    return found


def test_a_query_gives_what_the_same_records_in_a_file_give_in_any_order(database):
    file = load_silo_task("tabular", str(database / "patients.csv"), {"schema": "schema.yaml"})
    assert len(rows_of(file)) == 4
    for order in ("age", "relapse, age DESC"):
        task = make(database, f"SELECT * FROM patients ORDER BY {order};")
        assert rows_of(task) == rows_of(file)
        assert task.description() == file.description()


def test_the_url_comes_from_the_environment(database, monkeypatch):
    monkeypatch.setenv("CLINIC_URL", f"sqlite:///{database / 'clinic.db'}")
    assert len(make(database, **{"url-env": "CLINIC_URL"}).load_train()) == 4


def test_a_query_may_hold_colons_percents_and_quoted_semicolons(database):
    query = "-- adults\nSELECT age, sex, relapse FROM patients WHERE 'a:b; %s' = 'a:b; ' || '%s' AND ' :x' <> ''"
    assert len(make(database, query).load_train()) == 4
    computed = "WITH p AS (SELECT * FROM patients) SELECT age, sex, relapse FROM p WHERE relapse IN (0, 1)"
    assert len(make(database, computed).load_train()) == 4


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("DELETE FROM patients", "query begins with 'DELETE': it must be a SELECT"),
        ("/* SELECT */ -- SELECT\n DROP TABLE patients", "query begins with 'DROP'"),
        ("(SELECT 1)", "query begins with ''"),
        ("SELECT 1; DROP TABLE patients", "query holds a semicolon"),
        ("WITH x AS (SELECT 1) DELETE FROM patients", "the database refuses the query: attempt to write a readonly"),
        ("SELECT * FROM patientz", "the database refuses the query: no such table: patientz"),
        ("SELECT agee FROM patients", "the database refuses the query: no such column: agee"),
        ("SELECT age, relapse FROM patients", "the query: column 'sex' is missing"),
        ("SELECT * FROM patients WHERE age > 200", "the query: there is no record in it"),
        ("SELECT *, 1 AS age FROM patients", "the query: column 'age' is there twice"),
        ("SELECT sex AS age, sex, relapse FROM patients", "the query: column 'age' row 1 is 'f', a number is expected"),
    ],
)
def test_a_wrong_query_is_refused_with_the_reason_and_changes_nothing(query, said, database):
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        make(database, query)
    assert count(database) == 4


def test_the_closing_semicolon_is_no_second_statement():
    assert checked(" select 1 ; \n") == "select 1"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": f"sqlite://ada:{PASSWORD}@clinic/db"}, "the URL cannot be used|cannot be reached"),
        ({"url": f"postgresql://ada:{PASSWORD}@clinic:port/db"}, "url: no SQLAlchemy URL"),
        ({"url": f"ada:{PASSWORD}@clinic"}, "url: no SQLAlchemy URL"),
        ({"url": f"oracal://ada:{PASSWORD}@clinic/db"}, "SQLAlchemy knows no database 'oracal'"),
        ({"url": "sqlite:////no/such/folder/x.db"}, r"cannot be reached or does not let us in \(OperationalError\)"),
        ({"url-env": f"postgresql://ada:{PASSWORD}@clinic/db"}, "url-env: the name of an environment variable"),
        ({"url-env": "NOT_SET_ANYWHERE"}, "url-env='NOT_SET_ANYWHERE': this environment variable is not set"),
        ({"url": ""}, "either url-env .* or url is expected"),
        ({"url": "sqlite://", "url-env": "A"}, "either url-env .* or url is expected"),
        ({"quary": "x"}, "there is no option 'quary'; did you mean 'query'"),
    ],
)
def test_a_url_that_does_not_work_is_refused_without_telling_it(options, said, database, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(ValueError, match=said) as found:
        make(database, **options)
    assert PASSWORD not in whole(found.value) + caplog.text


def test_what_the_database_says_is_passed_on_without_the_password(database, monkeypatch, caplog):
    real = sqlalchemy.create_engine
    monkeypatch.setattr(sqlalchemy, "create_engine", lambda url: real(f"sqlite:///{database / 'clinic.db'}"))
    monkeypatch.setenv("CLINIC_URL", "sqlite://ada:hunter2%21@clinic/db?key=s3cret")
    query = "SELECT 1 FROM [hunter2! hunter2%21 s3cret table]"
    with caplog.at_level(logging.DEBUG), pytest.raises(ValueError) as found:
        make(database, query, **{"url-env": "CLINIC_URL"})
    assert str(found.value) == "the database refuses the query: no such table: *** *** *** table"
    told = whole(found.value) + caplog.text
    assert PASSWORD not in told and "s3cret" not in told


def test_a_password_in_silo_yaml_is_advised_against_without_telling_it(database, monkeypatch, caplog):
    real = sqlalchemy.create_engine
    monkeypatch.setattr(sqlalchemy, "create_engine", lambda url: real(f"sqlite:///{database / 'clinic.db'}"))
    make(database, url=f"sqlite://ada:{PASSWORD}@clinic/db")
    assert "url-env names an environment variable" in caplog.text
    assert PASSWORD not in caplog.text


def whole(error):
    """What a log holds of this exception: `raise ... from None` must have cut off what it came from."""
    return "".join(traceback.format_exception(error))
