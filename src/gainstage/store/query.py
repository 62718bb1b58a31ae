"""SQL over the files of a run, by DuckDB, which reads them where they lie."""

# pyright: reportUnknownParameterType=false
# (PyArrow comes without types.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gainstage.errors import ConfigError
from gainstage.store.views import RunTables, views_of

if TYPE_CHECKING:
    import pyarrow as pa

_CONFIG: Final = {
    # SQL may come from others: it sees the run, and nothing else of the machine.
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    # What does not fit into memory is an error: it would be spilled into the current folder.
    "temp_directory": "",
}


def query(run: RunTables, sql: str) -> pa.Table:
    """Return what one SELECT finds in a run's `steps`, `gradients`, `weights` and the like.

    NaN and inf are values, and null is what was not there. DuckDB takes NaN for equal to itself
    and larger than inf.

    Args:
        run: A run: ended, still training, or killed.
        sql: One statement that reads: SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN.

    Raises:
        ConfigError: If DuckDB is not installed, or refuses the statement; its message in one line.
    """
    try:
        import duckdb
    except ImportError as error:
        raise ConfigError("SQL needs DuckDB: pip install 'gainstage[query]'") from error
    with duckdb.connect(":memory:", config=dict(_CONFIG)) as connection:
        for name, view in views_of(run).items():
            connection.register(name, view)
        connection.execute("SET lock_configuration = true")
        try:
            _check(connection.extract_statements(sql))
            return connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise ConfigError(_one_line(error)) from error


def _check(statements: list[Any]) -> None:
    kinds = [statement.type.name for statement in statements]
    if len(kinds) != 1 or kinds[0] not in ("SELECT", "EXPLAIN"):
        got = ", ".join(kinds) or "none"
        raise ConfigError(f"a query is one statement that reads, such as SELECT; got {got}")


def _one_line(error: Exception) -> str:
    """Return DuckDB's message without the picture of the statement below it."""
    lines = [line.strip() for line in str(error).split("\nLINE ")[0].splitlines()]
    return " ".join(line for line in lines if line)
