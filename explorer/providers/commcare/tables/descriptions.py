"""How are columns and tables described to people, in the applications' words?"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from explorer.contract.materializations import App
from explorer.providers.commcare.structure import Form, Question, Structure
from explorer.tables.memory import ColumnMemory, TableMemory
from explorer.tables.sql_text import shown
from explorer.tables.values import ColumnSpec, Path

MAX_DESCRIPTION = 900
_MAX_OPTIONS = 25


class Applications:
    """The current applications, and the words for questions that they no longer ask."""

    def __init__(self, structure: Structure) -> None:
        self._versions = {app.id: f"version {app.version} of " for app in structure.apps if app.version is not None}
        self._asked = {form.xmlns: {question.path for question in form.questions} for form in structure.forms}
        self._names = {app.id: app.name for app in structure.apps}
        self._titles = {form.xmlns: form.title for form in structure.forms}
        self._seen_on = f"seen on {datetime.now(UTC).date()}"

    def since(self, form: Form) -> str:
        """Since when questions are gone, in words; empty if no application has the form, so that nothing is known of its
        questions."""
        if form.xmlns not in self._asked:
            return ""
        return f"{self._versions.get(form.app_id, '')}application {one_line(form.app_name)} ({self._seen_on})"

    def asks(self, form: Form, path: Path) -> bool:
        """Whether the form has a question at `path` now."""
        return path in self._asked.get(form.xmlns, ())

    def origin(self, app_ids: Iterable[str], xmlns: str | None) -> dict[str, Any]:
        """The applications that describe a table, and the form if the table belongs to one."""
        apps = tuple(App(id=app_id, name=self._names.get(app_id, app_id)) for app_id in app_ids)
        origin: dict[str, Any] = {"apps": apps}
        if xmlns is not None:
            title = self._titles.get(xmlns)
            origin |= {"xmlns": xmlns, **({"form": title} if title else {})}
        return origin


def form_title(form: Form) -> str:
    place = f"application {form.app_name}" if form.app_id else form.app_name
    return f"{form.title} ({place}, xmlns {form.xmlns})"


def formerly(memory: TableMemory) -> str:
    return f" It was called {memory.former[-1]} before." if memory.former else ""


def about_asked(column: ColumnSpec) -> str:
    return f"{one_line(column.label or '')} (Question {shown('/'.join(column.path or ()))}.)"


def about_question(question: Question, known: ColumnMemory) -> str:
    kind = (
        "Hidden value"
        if question.type == "DataBindOnly"
        else f"Question of type {question.type}"
        if question.type
        else "Answer"
    )
    label = f"{one_line(question.label)} " if question.label and question.label != question.path[-1] else ""
    listed = [f"{shown(option.value)} = {one_line(option.label)}" for option in question.options[:_MAX_OPTIONS]]
    more = "; ..." if len(question.options) > _MAX_OPTIONS else ""
    choices = f" Choices: {'; '.join(listed)}{more}." if listed else ""
    gone: dict[str, list[str]] = {}
    for value, since in list(known.removed.items())[:_MAX_OPTIONS]:
        gone.setdefault(since, []).append(shown(value))
    removed = "".join(f" Removed from the application since {since}: {', '.join(of)}." for since, of in gone.items())
    left = f" No longer asked since {known.left}." if known.left else ""
    return f"{label}({kind} {shown('/'.join(question.path))}.){left}{removed}{choices}"


def one_line(text: str) -> str:
    return " ".join(text.split())
