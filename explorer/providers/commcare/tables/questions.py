"""What does a question's type mean for its column?"""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from explorer.providers.commcare.structure import Form, Question
from explorer.providers.commcare.tables.paths import Path
from explorer.tables.column_types import Kind, wider
from explorer.tables.memory import ColumnMemory

KINDS: Mapping[str | None, Kind | None] = {
    "Int": "integer",
    "Long": "integer",
    "Double": "decimal",
    "Date": "date",
    "DateTime": "datetime",
    "Time": "time",
    "MSelect": "choices",
    "Geopoint": "geopoint",
    # Hidden values, and answers that no application describes.
    "DataBindOnly": None,
    None: None,
}


# Types of questions that contain others and have no answer of their own.
NO_ANSWER = frozenset({"Group", "Repeat", "FieldList", "SaveToCase"})


def is_asked(question: Question) -> bool:
    """Whether the question has answers of its own."""
    return not question.is_group and question.type not in NO_ANSWER


def declared_kind(question: Question, known: ColumnMemory | None = None) -> Kind | None:
    """The kind that the question declares; None where its values decide."""
    kind = KINDS.get(question.type, "text")
    # A hidden value that replaced choices or a place may be any text.
    return "text" if kind is None and known and {"MSelect", "Geopoint"} & set(known.types) else kind


def recall(question: Question, known: ColumnMemory) -> Question:
    """`question`, merged with all its earlier definitions."""
    return replace(question, label=known.label, translations=dict(known.translations), options=tuple(known.options))


def kind_of_property(kind: Kind | None) -> Kind | None:
    """The kind of a case property that a question of `kind` saves to: a place is one text."""
    return "text" if kind == "geopoint" else kind


def _with_options(question: Question, other: Question) -> Question:
    options = {option.value: option for option in (*other.options, *question.options)}
    return replace(question, options=tuple(options.values()))


def questions_of_properties(forms: Iterable[Form]) -> dict[str, dict[str, tuple[Kind | None, Question, Form]]]:
    """Case type and property to the question of the same name in a form of that case type, and the kind that all such questions
    share.

    Applications do not say which question saves to which property; by default a property has its question's name.
    """
    found: dict[str, dict[str, tuple[Kind | None, Question, Form]]] = {}
    for form in forms:
        for question in form.questions:
            if form.case_type is None or question.is_group or question.repeat or question.type in NO_ANSWER:
                continue
            kind = kind_of_property(declared_kind(question))
            of_type = found.setdefault(form.case_type, {})
            known = of_type.get(question.path[-1])
            if known is None or known[0] is None:
                of_type[question.path[-1]] = (kind, question, form)
            elif kind is not None:
                of_type[question.path[-1]] = (wider(known[0], kind), _with_options(known[1], question), known[2])
    return found


def repeats_of(form: Form) -> list[Path]:
    """Paths of the repeat groups of a form, sorted."""
    declared = {question.path for question in form.questions if question.type == "Repeat"}
    return sorted(declared | {question.repeat for question in form.questions if question.repeat})
