"""What can a tenant's login learn from the database's catalogs? Nothing that names others.

PUBLIC's rights on system relations, on functions that reach outside a statement, on languages and on the database move to the
group `dp_catalog`. Trusted logins (services, loaders, dbt) are in it, readers are not. Parser and planner do not check these
rights, so ordinary SQL keeps working. Hardening needs a superuser. Without one PostgreSQL only warns, and the report says
`complete=False`: then the SQL validator alone separates tenants. `provisioning` sets the rights of tenants.
"""

from collections import Counter
from dataclasses import dataclass
from importlib.resources import files

from explorer.postgres.connections import Connection
from explorer.postgres.roles import ensure_role, is_superuser

CATALOG_GROUP = "dp_catalog"


@dataclass(frozen=True)
class HardeningReport:
    """`exposed`: number of objects of each kind (database, schema, language, relation, columns, function) that PUBLIC can still
    reach; `changed`: number of rights taken away in this call; `other_databases`: further databases that PUBLIC may connect
    to."""

    exposed: dict[str, int]
    changed: dict[str, int]
    other_databases: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Nothing is exposed in this database, and no other one can be entered."""
        return not self.exposed and not self.other_databases

    def summary(self) -> str:
        """One line for people."""
        if self.complete:
            return "System catalogs are closed to tenants."
        left = [f"{count} of kind {kind}" for kind, count in sorted(self.exposed.items())]
        left += [f"database {name}" for name in self.other_databases]
        return (
            f"System catalogs are not fully closed to tenants ({', '.join(left)}): a superuser must run the setup; until then "
            "the check of each statement alone keeps names from them."
        )


def harden(conn: Connection) -> HardeningReport:
    """Close the catalogs of the connected database; all or nothing, repeatable, about half a second the first time."""
    with conn.transaction():
        # One at a time: two would change the same catalog rows, and the second would fail.
        conn.execute("SELECT pg_advisory_xact_lock(hashtext('explorer.harden'))")
        ensure_role(conn, CATALOG_GROUP)
        rows = _exposed(conn)
        superuser = is_superuser(conn)
        doable = [row for row in rows if superuser or row[:2] == ("schema", "public") or row[0] == "database"]
        if doable:
            conn.execute("SET LOCAL client_min_messages = error")
            conn.execute("; ".join(statement for _kind, _name, statement in doable).encode())
        left = _exposed(conn) if doable else rows
        return HardeningReport(_count(left), _count([row for row in rows if row not in left]), _open_databases(conn))


def check_hardening(conn: Connection) -> HardeningReport:
    """What is exposed; changes nothing."""
    return HardeningReport(_count(_exposed(conn)), {}, _open_databases(conn))


def lets_readers_leave_traces(conn: Connection) -> bool:
    """Whether a tenant's reader may call a function whose effect outlives `DISCARD ALL`."""
    row = conn.execute(
        "SELECT bool_or(has_function_privilege('public', name, 'EXECUTE')) FROM unnest(%s::text[]) AS lasting (name)",
        [["pg_catalog.set_config(text, text, boolean)", "pg_catalog.setseed(double precision)"]],
    ).fetchone()
    return row == (True,)


def _exposed(conn: Connection) -> list[tuple[str, str, str]]:
    query = files(__package__).joinpath("exposed.sql").read_bytes()
    return [(kind, name, statement) for kind, name, statement in conn.execute(query).fetchall()]


def _open_databases(conn: Connection) -> tuple[str, ...]:
    rows = conn.execute(
        "SELECT d.datname FROM pg_database d WHERE d.datallowconn AND d.datname <> current_database() AND EXISTS ("
        "SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a"
        " WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT') ORDER BY 1"
    )
    return tuple(row[0] for row in rows.fetchall())


def _count(rows: list[tuple[str, str, str]]) -> dict[str, int]:
    return dict(Counter(kind for kind, _name, _statement in rows))
