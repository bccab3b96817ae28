"""The data dictionary as Markdown, for agents, wikis and repositories."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from mcp_bridge.dictionary.contents import POLICIES, ColumnEntry, Dictionary, TableEntry

# What Markdown or HTML in it might take for markup.
_MARKUP = re.compile(r"([\\`*_\[\]<>|#~&!])")


def as_markdown(dictionary: Dictionary) -> str:
    """The document: a table of columns for each table."""
    tables = dictionary.tables
    lines = [
        f"# {_text(dictionary.title)}",
        "",
        f"Data dictionary of `{dictionary.tenant}`, made {_moment(dictionary.made_at)}: {len(tables)} tables."
        f" {POLICIES[dictionary.policy]} No value of a column with personal data is shown.",
        *(line for warning in dictionary.warnings for line in ("", f"> {_text(warning)}")),
        *(line for table in tables for line in _table(table)),
    ]
    return "\n".join(lines) + "\n"


def _table(table: TableEntry) -> Iterator[str]:
    yield from ("", f"## {_text(table.name)}", "", _text(table.description), "")
    yield f"- kind: {_text(table.kind)}" + (f"; a row is one {_text(table.row_word)}" if table.row_word else "")
    yield f"- rows: {'unknown' if table.rows is None else table.rows}"
    yield f"- as of: {_moment(table.as_of) if table.as_of else 'unknown'}, {table.freshness}"
    if table.retired:
        yield f"- retired: {table.retired}"
    yield from (f"- {_text(name)}: {_text(words)}" for name, words in table.origin)
    if table.made_from:
        yield f"- made from: {_text(', '.join(table.made_from))}"
    if table.failing_checks is not None:
        yield f"- failing checks: {_text(', '.join(table.failing_checks)) or 'none'}"
    yield from ("", "| column | type | meaning | options | values | made from |", "|---|---|---|---|---|---|")
    yield from (_column(column) for column in table.columns)
    for question, sql in table.queries:
        yield from ("", f"{_text(question)}", "", *(f"    {line}" for line in sql.splitlines()))


def _column(column: ColumnEntry) -> str:
    kind = (
        column.type
        + (", key" if column.is_key else "")
        + (f", personal data: {column.personal}" if column.personal else "")
    )
    asked = [column.question] if column.question else []
    asked += [f"{language}: {label}" for language, label in column.translations.items()]
    meaning = " / ".join(_text(each) for each in (*asked, column.description) if each)
    options = "; ".join(
        _text(" / ".join((f"{option.value} = {option.label}", *(f"{k}: {v}" for k, v in option.translations.items()))))
        for option in column.options
    )
    cells = (
        _text(column.name),
        _text(kind),
        meaning,
        options,
        _text(_values(column)),
        _text(", ".join(column.made_from)),
    )
    return f"| {' | '.join(cells)} |"


def _values(column: ColumnEntry) -> str:
    parts = [", ".join(column.examples)] if column.examples else []
    parts += [f"{column.least} to {column.greatest}"] if column.least is not None else []
    parts += [f"{column.null_share:.0%} empty"] if column.null_share is not None else []
    parts += [f"{column.unfit} do not fit"] if column.unfit else []
    parts += [column.note] if column.note else []
    return "; ".join(parts)


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _text(value: str) -> str:
    """A text of the source in one line, without markup."""
    return _MARKUP.sub(r"\\\1", " ".join(value.split()))
