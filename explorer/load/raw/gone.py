"""Which rows are marked as deleted after a full extract? Missing ones whose absence is proven."""

from psycopg import sql

from explorer.extract.proof import Proof
from explorer.load.raw.cells import TextArray
from explorer.load.raw.load_input import LoadInput, ParentRows
from explorer.load.raw.statements import TableStatements


def mark_gone(statements: TableStatements, load_input: LoadInput, proof: Proof) -> int:
    """Mark missing rows that are proven to be gone. Returns their number. The staged table holds the ids that were read."""
    moment = sql.Literal(load_input.moment)
    parents = load_input.parents()
    deleted = 0
    was_read: sql.Composable = sql.SQL("true")
    if parents:
        was_read = _was_read(statements, parents)
        deleted = _mark_with_parents(statements, parents, was_read, moment)
    missing = statements.formatted(
        "t.{deleted} IS NULL AND {was_read} AND NOT EXISTS (SELECT FROM {staged} s WHERE s.{key} = t.{key})",
        was_read=was_read,
    )
    statements.execute("ANALYZE {staged}")
    number = _count(statements, missing)
    if number and proof.reads_again:
        deleted += _mark_missing_twice(statements, missing, moment, proof)
    elif number > proof.limit:
        proof.refuse(number, f"more are missing than the {proof.limit} that a load may ask for one by one")
    elif number:
        deleted += _mark_asked(statements, missing, moment, proof)
    return deleted


def _was_read(statements: TableStatements, parents: ParentRows) -> sql.Composed:
    return statements.formatted(
        "{parent}::text = ANY({read}::text[])",
        parent=sql.Identifier("t", parents.column),
        read=sql.Literal(sorted(parents.read)),
    )


def _mark_with_parents(
    statements: TableStatements, parents: ParentRows, was_read: sql.Composable, moment: sql.Literal
) -> int:
    """Mark rows whose parent was not read and is marked itself."""
    return statements.execute(
        "UPDATE {table} t SET {deleted} = {moment} FROM {parents} o WHERE t.{deleted} IS NULL AND NOT {was_read}"
        " AND {parent_key}::text = {parent}::text AND o.{deleted} IS NOT NULL",
        moment=moment,
        was_read=was_read,
        parents=sql.Identifier(statements.schemas.raw, parents.table),
        parent=sql.Identifier("t", parents.column),
        parent_key=sql.Identifier("o", parents.key),
    ).rowcount


def _mark_missing_twice(statements: TableStatements, missing: sql.Composed, moment: sql.Literal, proof: Proof) -> int:
    for ids in proof.read_again():
        came = "INSERT INTO {staged} SELECT id::{type} FROM unnest(%s::text[]) AS c (id)"
        statements.execute(came, [TextArray(ids)])
    if not proof.agrees(_count(statements, missing)):
        return 0
    mark = "UPDATE {table} t SET {deleted} = {moment} WHERE {missing}"
    return statements.execute(mark, moment=moment, missing=missing).rowcount


def _mark_asked(statements: TableStatements, missing: sql.Composed, moment: sql.Literal, proof: Proof) -> int:
    listed = statements.execute("SELECT t.{key}::text FROM {table} t WHERE {missing}", missing=missing)
    ids = [identity for (identity,) in listed]
    known = statements.execute("SELECT {key}::text FROM {staged} LIMIT 1").fetchone()
    gone = proof.ask(ids, known[0] if known else None)
    mark = "UPDATE {table} t SET {deleted} = {moment} WHERE t.{key} = ANY(%s::{type}[])"
    return statements.execute(mark, [gone], moment=moment).rowcount


def _count(statements: TableStatements, missing: sql.Composed) -> int:
    return int(statements.row("SELECT count(*) FROM {table} t WHERE {missing}", missing=missing)[0])
