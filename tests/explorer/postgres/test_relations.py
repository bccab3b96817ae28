"""What schemas hold, in plain words."""

from collections.abc import Callable

from explorer.postgres.relations import columns, relations
from tests.conftest import Tenant


def test_relations_and_columns_as_people_call_them(make_tenant: Callable[..., Tenant]) -> None:
    tenant = make_tenant()
    marts = tenant.names.marts
    with tenant.rw.connect(autocommit=True) as connection:
        connection.execute(f"create table {marts}.t (a varchar, b varchar[], c varchar(3), d timestamptz)".encode())
        connection.execute(f"create view {marts}.v as select a from {marts}.t".encode())
        connection.execute(f"comment on table {marts}.t is 'One row.'".encode())
        found = [(each.name, each.kind, each.comment) for each in relations(connection, [marts])]
        types = columns(connection, [marts])[marts]
    assert found == [("v", "view", ""), ("t", "table", "One row.")]
    assert types["v"] == [("a", "text")]
    assert types["t"] == [
        ("a", "text"), ("b", "text[]"), ("c", "character varying(3)"), ("d", "timestamp with time zone"),
    ]  # fmt: skip
