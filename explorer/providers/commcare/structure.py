"""What is a CommCare project space made of? Applications, case types, forms and their questions, as plain values.

Discovery makes these values, the catalog stores versions of them (`to_dict`, `from_dict`), and `tables` turns them into tables.
`discovery` reads them from the server; `tables` names tables and columns.
"""

from typing import Any, Self

import msgspec

from explorer.providers.base import Outline
from explorer.tables.values import Option as Option


class _Part(msgspec.Struct, frozen=True, omit_defaults=False):
    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form of the value; tuples become lists."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The value of a `to_dict` result; msgspec.ValidationError for anything else."""
        return msgspec.convert(data, cls)


class Question(_Part, frozen=True):
    """One node of a form that can hold an answer, or a group of such nodes.

    `path`: keys within the form's JSON (`form` of the API record), without the XForm's root element.
    `type`: CommCare's own name (Text, Int, Double, Long, Date, DateTime, Time, Select, MSelect, Geopoint, Barcode, PhoneNumber,
    DataBindOnly for hidden values, Group, Repeat, FieldList, Trigger, ...); None when the server gives none. When copies of the
    form disagree, the wider type. `repeat`: path of the innermost repeat around the question, a proper prefix of `path`; None
    outside of repeats. For a question of type Repeat it is the repeat around that. `calculate`: XPath of a hidden value.
    `is_group`: has no answer of its own (groups, repeats, field lists).
    """

    path: tuple[str, ...]
    label: str
    type: str | None = None
    translations: dict[str, str] = {}
    options: tuple[Option, ...] = ()
    repeat: tuple[str, ...] | None = None
    required: bool = False
    calculate: str | None = None
    is_group: bool = False


class Form(_Part, frozen=True):
    """All forms of one `xmlns`, merged: copies in shadow modules and copied applications differ only in details.

    `name`: language code to name. `title`: the best single name, never empty. `app_id`, `app_name`, `module`, `case_type`: of
    the first copy by application id; `app_ids`: of all copies. `questions_language`: language of the questions' `label`, None if
    unknown. `questions`: in the form's order, unique by `path`.
    """

    xmlns: str
    name: dict[str, str]
    title: str
    app_id: str
    app_name: str
    module: str
    case_type: str | None
    questions: tuple[Question, ...]
    questions_language: str | None = None
    app_ids: tuple[str, ...] = ()


class CaseType(_Part, frozen=True):
    """One case type of all applications. `properties`: sorted, without those of a parent case (`parent/x`); `name`, the case's
    own name, is included when the server lists it."""

    name: str
    properties: tuple[str, ...]
    app_ids: tuple[str, ...]


class Module(_Part, frozen=True):
    """One module (menu) of an application. `error`: why the server could not describe it; then nothing else is known."""

    name: str
    case_type: str | None
    form_xmlns: tuple[str, ...] = ()
    error: str | None = None


class App(_Part, frozen=True):
    """One application. `error`: a module could not be described, so that its forms may be incomplete."""

    id: str
    name: str
    version: int | None
    modules: tuple[Module, ...]
    error: str | None = None


class Structure(_Part, frozen=True):
    """A project space's structure. All collections are sorted (apps by id, case types by name, forms by xmlns): equal
    structures have equal dictionaries. `warnings`: sentences for people, one per part that could not be read."""

    apps: tuple[App, ...]
    case_types: tuple[CaseType, ...]
    forms: tuple[Form, ...]
    warnings: tuple[str, ...] = ()

    def outline(self) -> Outline:
        """Number of parts of each kind, and the size of each case type and form."""
        return Outline(
            counts={
                "apps": len(self.apps),
                "case_types": len(self.case_types),
                "forms": len(self.forms),
                "questions": sum(len(form.questions) for form in self.forms),
            },
            parts=(
                *(("case type", case_type.name, len(case_type.properties)) for case_type in self.case_types),
                *(("form", form.title, len(form.questions)) for form in self.forms),
            ),
            size_title="properties or questions",
            warnings=self.warnings,
        )
