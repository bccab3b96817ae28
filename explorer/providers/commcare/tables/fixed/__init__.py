"""Which tables does every project space get, whatever its applications are?"""

from collections.abc import Sequence

from explorer.providers.commcare.tables.fixed.cases import CASES
from explorer.providers.commcare.tables.fixed.form_cases import RepeatGroup as RepeatGroup
from explorer.providers.commcare.tables.fixed.form_cases import form_cases
from explorer.providers.commcare.tables.fixed.forms import FORMS
from explorer.providers.commcare.tables.fixed.locations import LOCATION_TYPES, LOCATIONS
from explorer.providers.commcare.tables.fixed.lookup_tables import LOOKUP_TABLE_ITEMS, LOOKUP_TABLES
from explorer.providers.commcare.tables.fixed.options import question_options
from explorer.providers.commcare.tables.fixed.owners import OWNERS
from explorer.providers.commcare.tables.fixed.ucr import UCR_DATA_SOURCES, UCR_ROWS
from explorer.providers.commcare.tables.fixed.users import GROUPS, USER_LOCATIONS, USERS, WEB_USERS
from explorer.tables.values import TableSpec


def fixed_tables(
    repeats: frozenset[RepeatGroup] = frozenset(), generated: Sequence[TableSpec] = ()
) -> tuple[TableSpec, ...]:
    """All of them, parents first. `repeats`: the repeat groups of the tenant's forms, which `form_cases` tells apart;
    `generated`: its other tables, whose options `question_options` lists."""
    return (
        USERS,
        WEB_USERS,
        GROUPS,
        LOCATION_TYPES,
        LOCATIONS,
        OWNERS,
        USER_LOCATIONS,
        CASES,
        FORMS,
        form_cases(repeats),
        question_options(generated),
        LOOKUP_TABLES,
        LOOKUP_TABLE_ITEMS,
        UCR_DATA_SOURCES,
        UCR_ROWS,
    )
