"""How did all tables of a tenant come to their rows? In one statement that gives one text, for who asks with every call."""

import msgspec
from psycopg import sql

from explorer.contract.bookkeeping.builds import Build
from explorer.contract.bookkeeping.definitions import BUILDS, LOADS, Schemas
from explorer.contract.bookkeeping.loads import Loaded

# `changed_at` of a load as text, because builds hold what they have seen of it so.
_STATEMENT = """\
SELECT json_build_object(
  'recorded', coalesce((SELECT json_object_agg(name, json_build_object('kind', kind, 'definition', definition,
      'relation', relation::bigint, 'built_from', built_from, 'version', version, 'run_id', run_id, 'changed_at', changed_at,
      'rows', rows, 'findings', findings, 'checked', checked)) FROM {builds}), '{{}}'),
  'loaded', coalesce((SELECT json_object_agg(table_name, json_build_object('live_rows', live_rows,
      'changed_at', changed_at::text, 'loaded_at', updated_at, 'run_id', run_id)) FROM {loads}), '{{}}'))"""


class Provenance(msgspec.Struct, frozen=True):
    """The builds of tables and models and the last loads of raw tables, by name, of one moment."""

    recorded: dict[str, Build]
    loaded: dict[str, Loaded]


def statement(schemas: Schemas) -> bytes:
    """Gives the text for `parse`, in a session whose time zone is UTC. Fails where nothing was loaded or built yet."""
    builds, loads = sql.Identifier(schemas.staging, BUILDS), sql.Identifier(schemas.raw, LOADS)
    return sql.SQL(_STATEMENT).format(builds=builds, loads=loads).as_string().encode()


def parse(text: bytes) -> Provenance:
    """What `statement` gave."""
    return msgspec.json.decode(text, type=Provenance)
