"""The task `sql`: rows of a query against a silo's own database, from there on exactly the task `tabular`."""

import logging
import os
import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote, quote_plus

import pandas as pd
import sqlalchemy
from pydantic import Field
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.records.cells import Records, marks
from fedlaw_flwr.records.options import read_options
from fedlaw_flwr.records.tabular import TableOptions, over_records, read_schema
from fedlaw_flwr.tasks.classification import ClassificationTask

_log = logging.getLogger("fedlaw.silo")
_COMMENT = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)

# A WITH may end in a DELETE, and SQLite's driver commits that one by itself.
_READ_ONLY = {"sqlite": "PRAGMA query_only = ON", "postgresql": "SET TRANSACTION READ ONLY"}


class QueryOptions(TableOptions):
    """The query and where it is asked.

    Attributes:
        query: The query.
        url: The SQLAlchemy URL itself.
        url_env: The name of the environment variable that holds the SQLAlchemy URL.
    """

    query: Annotated[str, Field(min_length=1)]
    url: str = ""
    url_env: str = ""

    def records(self) -> Records:
        """The rows of the query.

        Raises:
            ValueError: For a query that is refused or fails. Neither the URL nor its password is in any text of it.
        """
        return Records("the query", _rows(self._url(), checked(self.query)), self.decimal, marks(self.missing))

    def _url(self) -> sqlalchemy.URL:
        if bool(self.url) == bool(self.url_env):
            raise InputError("task='sql': either url-env (better: a URL holds a password) or url is expected")
        if not re.fullmatch(r"\w*", self.url_env):
            raise InputError("url-env: the name of an environment variable is expected, not the URL itself")
        text = self.url or os.environ.get(self.url_env, "")
        source = "url" if self.url else f"url-env={self.url_env!r}"
        if not text:
            raise InputError(f"{source}: this environment variable is not set where `fedlaw silo` runs")
        try:
            url = sqlalchemy.make_url(text)
        except (ArgumentError, ValueError):
            # from None here and below: what SQLAlchemy says may quote a piece of the password.
            raise InputError(f"{source}: no SQLAlchemy URL; postgresql://user:password@host/database is one") from None
        if self.url and url.password is not None:
            _log.warning("url holds a password; url-env names an environment variable that holds it instead")
        return url


class SqlOptions(QueryOptions):
    """The options of the task in silo.yaml."""

    schema_file: Annotated[str, Field(alias="schema", min_length=1)]


def task(data_path: str, options: Mapping[str, str | int | float | bool]) -> ClassificationTask:
    """The silo's task over the rows of its query: a `tasks.base.SiloTaskFactory`.

    The query is asked once, here.

    Args:
        data_path: `data-path` in silo.yaml: only the folder where the schema lies.
        options: `options` in silo.yaml.

    Raises:
        ValueError: A sentence for each thing that is wrong.
    """
    chosen = read_options(SqlOptions, "sql", options)
    schema = read_schema(chosen.schema_file, data_path)
    return over_records("sql", schema, chosen.records(), chosen)


def checked(query: str) -> str:
    """The query without its closing semicolon.

    This is a guard against mistakes. What protects a database is an account that may only read.

    Raises:
        ValueError: Unless the query is one statement, SELECT or WITH.
    """
    text = query.strip().removesuffix(";").rstrip()
    comment = _COMMENT.match(text)
    start = text[comment.end() if comment else 0 :]
    first = re.match(r"\w*", start)
    word = first.group().upper() if first else ""
    if word not in ("SELECT", "WITH"):
        raise InputError(f"query begins with {word[:20]!r}: it must be a SELECT, or WITH ... SELECT")
    if ";" in re.sub(r"'[^']*'|\"[^\"]*\"", "", start):
        raise InputError("query holds a semicolon: one statement is expected")
    return text


def _rows(url: sqlalchemy.URL, query: str) -> pd.DataFrame:
    """The rows, read in a transaction that is rolled back."""
    try:
        engine = sqlalchemy.create_engine(url)
    except NoSuchModuleError:
        raise InputError(f"SQLAlchemy knows no database {_clean(url.drivername, url)!r}") from None
    except ModuleNotFoundError as error:
        raise InputError(f"the database's driver {error.name!r} is not installed here: pip install it") from None
    except (SQLAlchemyError, ValueError, TypeError) as error:
        raise InputError(f"the URL cannot be used ({type(error).__name__})") from None
    try:
        try:
            connection = engine.connect()
        except Exception as error:  # a driver raises what it likes, and may quote the URL in it
            kind = type(error).__name__
            raise InputError(f"the database cannot be reached or does not let us in ({kind}); check the URL") from None
        with connection:
            # Every colon escaped: SQLAlchemy would take ':name' for a parameter.
            statement = sqlalchemy.text(query.replace(":", "\\:"))
            try:
                if read_only := _READ_ONLY.get(url.get_backend_name()):
                    connection.exec_driver_sql(read_only)
                result = connection.execute(statement)
                # As objects: pandas would make floats of whole numbers with a NULL.
                rows = [tuple(row) for row in result.fetchall()]
                return pd.DataFrame(rows, columns=list(map(str, result.keys())), dtype=object)
            except SQLAlchemyError as error:
                said = error.orig if isinstance(error, DBAPIError) else type(error).__name__
                raise InputError(f"the database refuses the query: {_clean(str(said), url)}") from None
            finally:
                connection.rollback()
    finally:
        engine.dispose()


def _clean(said: str, url: sqlalchemy.URL) -> str:
    """On one line, cut, and without the URL or its password in any spelling."""
    in_query = [text for value in url.query.values() for text in ([value] if isinstance(value, str) else value)]
    secrets = {url.render_as_string(hide_password=False), url.password or "", *in_query} - {""}
    spelled = {spelling for secret in secrets for spelling in (secret, quote(secret), quote_plus(secret))}
    for secret in sorted(spelled, key=len, reverse=True):
        said = said.replace(secret, "***")
    return " ".join(said.split())[:300]
