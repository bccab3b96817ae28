"""What may a pipeline file contain? The typed shape of `pipelines/*.yml`. Unknown keys are errors."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
KeyType = Literal["text", "boolean", "timestamp", "bigint"]
_CRON_FIELD = re.compile(r"^[0-9A-Za-z*/,\-#L]+$")
# Letters of croniter's own: a time by chance or by a hash.
_BY_CHANCE = re.compile(r"(?<![a-z])[rh](?![a-z])", re.IGNORECASE)


def is_cron(text: str) -> bool:
    """Whether it is a cron string of five fields whose times come, and are always the same: not the 30th of February."""
    fields = text.split()
    if len(fields) != 5 or not all(_CRON_FIELD.match(field) for field in fields) or _BY_CHANCE.search(text):
        return False
    try:
        times = croniter(text, datetime(2000, 1, 1, tzinfo=UTC))
        times.get_next(), times.get_prev()
    except (CroniterError, OverflowError):
        return False
    return True


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Part):
    """When the pipeline starts for every active tenant: off until turned on in the UI, unless `running`.

    `spread_minutes`: the tenants' turns are spread over so many minutes after each time of the cron, and not beyond the next one.
    `fresh_within_minutes`: the target: how long ago a tenant's server may have been asked for news; None: as the cron says.
    """

    cron: str
    timezone: str = "UTC"
    spread_minutes: int = Field(60, ge=0, le=10_080)
    fresh_within_minutes: int | None = Field(None, ge=1, le=525_600)
    default_status: Literal["running", "stopped"] = "stopped"

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        if not is_cron(value):
            raise ValueError("a cron string has five fields: minute hour day month weekday, and names times that come")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"unknown time zone {value!r}; use a name such as UTC or Asia/Kolkata") from None
        return value


class Discovery(_Part):
    """A resource that is read to learn the tenant's structure rather than its data."""

    name: Name
    endpoint: str
    description: str


class Cursor(_Part):
    """Incremental loading: from the stored `field` value minus `overlap_s`, up to now minus `lag_s` (seconds)."""

    field: str
    overlap_s: int = Field(600, ge=0)
    lag_s: int = Field(0, ge=0)


class Pass(_Part):
    """One of several passes over an endpoint that together read the whole resource; `constants` are added to its records."""

    params: dict[str, str] = {}
    constants: dict[str, str | bool | int] = {}


class ForEach(_Part):
    """One request series per record of an earlier source: its `key` is sent as `param` and stored in the column `column`."""

    source: Name
    param: str = Field(min_length=1)
    key: Name
    column: Name


class Source(_Part):
    """One resource of the API and the raw table that it is loaded into.

    `endpoint`: relative to the tenant's API; `collection`: where an answer holds its records. `paging` and `proof` are styles of
    the provider, which checks them (`explorer.providers.paging`): how pages follow one another, and how a missing record is
    proven to be gone; the proof `walks`, which all providers have, is a second full extract. `resource`: a dlt resource of the
    provider's `sources.py` that yields the records, in place of `paging` and `collection`. `page_size`: records of the first
    request, growing up to `max_page_size` (default: `page_size`) while pages are small and quick. `max_windows`: number of time
    windows read in parallel. `rename`: record field to column. `keys`: the typed columns beside the record's full JSON.
    `key_from`: whether the primary key is a field of the record, or a hash of the whole record because no field is unique
    (`content`: equal records are one row; `occurrence`: they stay separate rows). Without `cursor` each load replaces the
    table's content. `load`: what writes the rows that differ: dlt, or our own COPY for sources of many records.
    """

    name: Name
    table: Name
    description: str
    endpoint: str
    paging: Name | None = None
    collection: str = ""
    resource: Name | None = None
    primary_key: Name
    key_from: Literal["field", "content", "occurrence"] = "field"
    keys: dict[Name, KeyType]
    page_size: int = Field(1000, ge=1, le=5000)
    max_page_size: int | None = Field(None, ge=1, le=10_000)
    max_windows: int = Field(8, ge=1, le=16)
    params: dict[str, str] = {}
    rename: dict[str, Name] = {}
    passes: tuple[Pass, ...] = (Pass(),)
    for_each: ForEach | None = None
    cursor: Cursor | None = None
    proof: Name = "walks"
    load: Literal["dlt", "copy"] = "dlt"

    def field_of(self, column: str) -> str:
        """The record field of a column."""
        return {to: name for name, to in self.rename.items()}.get(column, column)

    @property
    def largest_page(self) -> int:
        """The largest number of records to request for one page."""
        return max(self.page_size, self.max_page_size or 0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.resource) == bool(self.paging) or bool(self.paging) != bool(self.collection):
            raise ValueError("a source has paging and collection, or a resource")
        if self.resource and (self.for_each or self.params or self.passes != (Pass(),) or self.proof != "walks"):
            raise ValueError("a resource makes its own requests: no params, passes or for_each, and the proof walks")
        if self.primary_key not in self.keys:
            raise ValueError(f"primary_key {self.primary_key!r} is not among keys")
        if self.key_from != "field" and self.keys[self.primary_key] != "text":
            raise ValueError(
                f"key_from {self.key_from} gives a text: primary_key {self.primary_key!r} is declared as another type"
            )
        if self.max_page_size is not None and self.max_page_size < self.page_size:
            raise ValueError("max_page_size is less than page_size")
        if self.proof != "walks" and self.key_from != "field":
            raise ValueError(
                f"proof {self.proof} asks for a record by its key: key_from {self.key_from} has none that the API knows"
            )
        if self.for_each and self.for_each.column not in self.keys:
            raise ValueError(f"for_each.column {self.for_each.column!r} is not among keys")
        if self.for_each and self.cursor:
            raise ValueError("for_each and cursor exclude each other: there is one stored cursor per source")
        if self.cursor and self.cursor.field not in self.keys:
            raise ValueError(f"cursor.field {self.cursor.field!r} is not among keys")
        if not self.table.startswith("raw_"):
            raise ValueError("table must start with raw_: the loader's tables are told apart by it")
        return self


class Transforms(_Part):
    """The dbt project, relative to the project folder, that turns raw tables into staging and marts."""

    dbt_project: str
    description: str


class Relationship(_Part):
    """A join between two marts: `table.column` of the referring side and of the referred side."""

    from_: str = Field(alias="from", pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$")
    to: str = Field(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$")
    description: str


class Pipeline(_Part):
    """One file of `pipelines/`: one Dagster job over all tenants (partitions).

    `schedule` launches it for changes since the last load, `full_refresh` for everything, which also finds deleted records.
    `discovery`: at most one part; without it nothing is known of a tenant's structure. Without `transforms` there are raw tables
    only.
    """

    name: Name
    title: str
    description: str
    provider: Name
    asset_prefix: Name
    owners: tuple[str, ...] = ()
    schedule: Schedule | None = None
    full_refresh: Schedule | None = None
    discovery: tuple[Discovery, ...] = Field((), max_length=1)
    sources: tuple[Source, ...] = Field(min_length=1)
    transforms: Transforms | None = None
    relationships: tuple[Relationship, ...] = ()

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        for what, names in (
            ("source name", [source.name for source in self.sources]),
            ("table", [source.table for source in self.sources]),
            ("discovery name", [part.name for part in self.discovery]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} used twice: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _references_lead_back(self) -> Self:
        earlier: dict[str, Source] = {}
        for source in self.sources:
            if source.for_each:
                parent = earlier.get(source.for_each.source)
                if parent is None:
                    raise ValueError(f"{source.name}: for_each.source {source.for_each.source!r} is no earlier source")
                if source.for_each.key not in parent.keys:
                    raise ValueError(
                        f"{source.name}: for_each.key {source.for_each.key!r} is not among keys of {parent.name}"
                    )
            earlier[source.name] = source
        return self

    def source(self, name: str) -> Source:
        """The source called `name`; KeyError when there is none."""
        return {source.name: source for source in self.sources}[name]

    @property
    def source_names(self) -> tuple[str, ...]:
        return tuple(source.name for source in self.sources)
