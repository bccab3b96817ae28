"""What a CommCare project space is made of: applications, case types, forms and their questions, as plain values.

These are the values that discovery produces, the catalog stores as versions (`to_dict`, `from_dict`) and transforms turn into
tables. How they are read from the server belongs to `discovery`; names of tables and columns belong to transforms.
"""

from typing import Any, Self

import msgspec

from explorer.providers.base import Outline
from explorer.tables.values import Option as Option


class _Part(msgspec.Struct, frozen=True, omit_defaults=False):
    def to_dict(self) -> dict[str, Any]:
        """JSON-able form of the value; tuples become lists."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The value that `to_dict` gave; msgspec.ValidationError for anything else."""
        return msgspec.convert(data, cls)


class Question(_Part, frozen=True):
    """One node of a form that can hold an answer, or a group of such nodes.

    `path`: keys to follow inside the form's JSON (`form` of the API record), the XForm's root element left out.
    `type`: CommCare's own name (Text, Int, Double, Long, Date, DateTime, Time, Select, MSelect, Geopoint, Barcode, PhoneNumber,
    DataBindOnly for hidden values, Group, Repeat, FieldList, Trigger, ...); None when the server gives none. Where copies of the
    form disagree, the wider type of the two.
    `repeat`: path of the innermost repeat that the question lies in, a proper prefix of `path`; None outside of repeats. A
    question of type Repeat names the repeat around it, not itself.
    `calculate`: XPath of a hidden value. `is_group`: no answer of its own (groups, repeats, field lists).
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
    """All forms of one `xmlns`, merged: copies in shadow modules and copied applications differ at most in details.

    `name`: language code to name. `title`: the best single name, never empty. `app_id`, `app_name`, `module`, `case_type`: of the
    first copy in the order of application ids; `app_ids`: of all copies. `questions_language`: language of the questions'
    `label`, None when it cannot be told. `questions`: in the order of the form, unique by `path`.
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
    """One case type over all applications. `properties`: sorted, without those of a parent case (`parent/x`); `name`, the
    case's own name, is among them when the server lists it."""

    name: str
    properties: tuple[str, ...]
    app_ids: tuple[str, ...]


class Module(_Part, frozen=True):
    """One module (menu) of an application. `error`: the server's reason for not describing it; then nothing else is known."""

    name: str
    case_type: str | None
    form_xmlns: tuple[str, ...] = ()
    error: str | None = None


class App(_Part, frozen=True):
    """One application. `error`: set when a module of it could not be described, so that its forms may be incomplete."""

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
        """How many parts of each kind there are, and the size of each case type and form."""
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
