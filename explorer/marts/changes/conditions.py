"""Limits the SQL that dbt compiled to the changed records."""

import re
from collections.abc import Mapping
from typing import LiteralString

from psycopg import sql

from explorer.marts.changes.gathered import Change, changed
from explorer.marts.project import TenantProject
from explorer.postgres.connections import Connection

# The marks that the macro `is_wanted` writes: a key and, where it refers to another table, the column.
_MARK = re.compile(r"""true /\*'(\w+)'(?: (\w+))?\*/""")


def is_marked(statement: str, key: str) -> bool:
    """Whether the statement has a mark for the key, so that its rows can be limited."""
    return (key, "") in _MARK.findall(statement)


def rows_of_changes(connection: Connection, project: TenantProject, key: str, group: str | None, statement: str) -> str:
    """The SQL of a model for the changed records of this key and group."""
    condition = _condition(connection, project, key, group)
    return _MARK.sub(lambda mark: condition if mark.groups() == (key, None) else mark[0], statement)


def in_table(project: TenantProject, key: str, group: str | None) -> sql.Composable:
    """Condition on rows of a model's table: they come from changed records that are, or were, in this group."""
    expression = project.change_keys[key].in_table
    column = sql.SQL(expression) if expression else sql.Identifier(key)
    return _among(project, key, column, _of_group("{group} in (kind, previous_kind)", group))


def cut_down_test(
    connection: Connection, project: TenantProject, statement: str, model: str, done: Mapping[str, Change]
) -> str:
    """The SQL of a test of `model`, limited to rows that changes may affect; `done`: the changes of the models that it reads.

    A mark with a column refers to the records of another table.
    """
    marks = _MARK.findall(statement)
    if not all(change.key in {key for key, _ in marks} for change in done.values()):
        return statement

    def condition(mark: re.Match[str]) -> str:
        key, column = mark.groups()
        changed_so = {name for name, change in done.items() if change.key == key}
        if column:
            return _condition(connection, project, key, None, column) if changed_so - {model} else "false"
        group = done[model].group if model in done else None
        return _condition(connection, project, key, group) if changed_so else "false"

    return _MARK.sub(condition, statement)


def _condition(
    connection: Connection, project: TenantProject, key: str, group: str | None, column: str | None = None
) -> str:
    """The condition in place of an `is_wanted` mark."""
    of_group = _of_group("kind = {group}", group)
    return _among(project, key, sql.Identifier(column or key), of_group).as_string(connection)


def _among(project: TenantProject, key: str, column: sql.Composable, of_group: sql.Composable) -> sql.Composable:
    """Whether `column` is among the changes. An array instead of a join, so that an index is used through every view."""
    condition: LiteralString = "{column} = any(array(select {key} from {changed}{of_group}))"
    if not project.change_keys[key].is_indexed:
        condition = "{column} in (select {key} from {changed}{of_group})"
    names = {
        "column": column,
        "key": sql.Identifier(key),
        "changed": changed(project.schemas, key),
        "of_group": of_group,
    }
    return sql.SQL(condition).format(**names)


def _of_group(condition: LiteralString, group: str | None) -> sql.Composable:
    """Limits the changes to a group of records: all changes are far more than one table has."""
    return sql.SQL(" where " + condition).format(group=group) if group is not None else sql.SQL("")
