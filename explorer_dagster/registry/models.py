"""What a pipeline file may say: the typed shape of `pipelines/*.yml`. Unknown keys are errors."""

import re
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
KeyType = Literal["text", "boolean", "timestamp", "bigint"]
_CRON_FIELD = re.compile(r"^[0-9A-Za-z*/,\-#L]+$")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Part):
    """When Dagster starts the pipeline for every active tenant: off until turned on in the UI, unless `running`."""

    cron: str
    timezone: str = "UTC"
    default_status: Literal["running", "stopped"] = "stopped"

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        fields = value.split()
        if len(fields) != 5 or not all(_CRON_FIELD.match(field) for field in fields):
            raise ValueError("a cron string has five fields: minute hour day month weekday")
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
    """One thing read from the server to learn the tenant's structure rather than its data."""

    name: Name
    endpoint: str
    description: str


class Cursor(_Part):
    """Incremental loading: re-read from the stored `field` value less `overlap_s`, up to now less `lag_s` (seconds)."""

    field: str
    overlap_s: int = Field(600, ge=0)
    lag_s: int = Field(0, ge=0)


class Pass(_Part):
    """One of several walks over an endpoint that together give the whole resource; `constants` are added to its records."""

    params: dict[str, str] = {}
    constants: dict[str, str | bool | int] = {}


class Source(_Part):
    """One resource of the API and the raw table it lands in.

    `endpoint` is relative to `{server}/a/{domain}/api/`. `paging`: `cursor` (case API v2), `indexed_on` (forms, by date),
    `offset` (tastypie), `single` (one response). `rename` maps a field of the record to its column. `keys` are the typed
    columns beside the record's full JSON. Without `cursor` each load replaces the table's content.
    """

    name: Name
    table: Name
    description: str
    endpoint: str
    paging: Literal["cursor", "indexed_on", "offset", "single"]
    collection: str
    primary_key: Name
    keys: dict[Name, KeyType]
    page_size: int = Field(1000, ge=1, le=5000)
    params: dict[str, str] = {}
    rename: dict[str, Name] = {}
    passes: tuple[Pass, ...] = (Pass(),)
    cursor: Cursor | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.primary_key not in self.keys:
            raise ValueError(f"primary_key {self.primary_key!r} is not among keys")
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
    """One file of `pipelines/`: one Dagster job over all tenants (partitions)."""

    name: Name
    title: str
    description: str
    provider: Literal["commcare"]
    asset_prefix: Name
    owners: tuple[str, ...] = ()
    schedule: Schedule | None = None
    discovery: tuple[Discovery, ...]
    sources: tuple[Source, ...] = Field(min_length=1)
    transforms: Transforms
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

    def source(self, name: str) -> Source:
        """The source called `name`; KeyError when there is none."""
        return {source.name: source for source in self.sources}[name]

    @property
    def source_names(self) -> tuple[str, ...]:
        return tuple(source.name for source in self.sources)
