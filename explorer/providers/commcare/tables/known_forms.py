"""Which forms and questions have tables? Those of the applications, plus everything ever known of them."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from explorer.providers.commcare.structure import Form, Question
from explorer.providers.commcare.tables.form_scan import ATTRIBUTES
from explorer.providers.commcare.tables.paths import Path, innermost, path_of, repeat_source
from explorer.providers.commcare.tables.profile import FormProfile, Profile
from explorer.providers.commcare.tables.questions import is_asked

_NO_APP = "no application"


def complete(profile: Profile, forms: Iterable[Form]) -> Iterator[Form]:
    """`forms` of the applications plus what was ever known of them: answers that only the data show, columns and repeat groups
    that their tables have; and whole forms that are in the data but in no application (any more)."""
    current = {form.xmlns: form for form in forms}
    repeats = profile.repeats_given()
    for xmlns in sorted({*current, *profile.forms}):
        form = current.get(xmlns) or _outside_of_applications(profile, xmlns)
        form = _asking_more(form, _unasked(profile, form, profile.forms.get(xmlns)))
        yield _asking_more(form, _given(profile, form, repeats.get(xmlns, ())))


def _given(profile: Profile, form: Form, repeats: Iterable[Path]) -> list[Question]:
    """Questions for the columns and repeat groups that the form's tables have and `form` does not define."""
    asked = (*profile.former_questions(form.xmlns).values(), *form.questions)
    questions = {question.path: question for question in asked if is_asked(question)}
    given = {(question.path, question.repeat) for question in form.questions if is_asked(question)}
    declared = {question.path for question in form.questions if question.type == "Repeat"}
    known = {*declared, *repeats, *(question.repeat for question in form.questions if question.repeat)}
    extra = [
        Question(path, label=path[-1], type="Repeat", repeat=innermost(path, known), is_group=True)
        for path in sorted(known - declared)
    ]
    for repeat in (None, *sorted(known)):
        kind, source = ("form", form.xmlns) if repeat is None else ("repeat", repeat_source(form.xmlns, repeat))
        memory = profile.tables.get(f"{kind} {source}")
        for key in memory.columns if memory else ():
            if ((path := path_of(key)), repeat) not in given:
                base = questions.get(path) or Question(path, label=path[-1])
                extra.append(msgspec.structs.replace(base, repeat=repeat))
    return extra


def _outside_of_applications(profile: Profile, xmlns: str) -> Form:
    known = profile.forms_known.get(xmlns)
    if known is not None:
        return msgspec.structs.replace(known, questions=(), app_id="", app_name=_NO_APP, app_ids=())
    return Form(
        xmlns,
        name={},
        title=profile.forms[xmlns].name,
        app_id="",
        app_name=_NO_APP,
        module="",
        case_type=None,
        questions=(),
    )


def _unasked(profile: Profile, form: Form, seen: FormProfile | None) -> list[Question]:
    """Questions for repeats and answers that submissions have and `form` does not define."""
    if seen is None:
        return []
    declared = {question.path: question for question in form.questions}
    former = profile.former_questions(form.xmlns)
    repeats = {path for path, question in declared.items() if question.type == "Repeat"}
    repeats |= {question.repeat for question in form.questions if question.repeat}
    repeats |= {path_of(key) for key in seen.repeats}
    # An answer whose question left the form stays in the repeat of that question.
    left = [former[path] for key in seen.answers if (path := path_of(key)) in former and path not in declared]
    once = {question.repeat for question in former.values() if question.repeat}
    repeats |= {
        prefix for question in left for prefix in once if question.path[: len(prefix)] == prefix != question.path
    }
    extra = [
        Question(path, label=path[-1], type="Repeat", repeat=innermost(path, repeats), is_group=True)
        for path in sorted(repeats)
        if path not in declared or declared[path].type != "Repeat"
    ]
    for key in sorted(seen.answers):
        path = path_of(key)
        question, around = declared.get(path), innermost(path, repeats)
        if question is not None and is_asked(question) and question.repeat == around:
            continue
        # A repeat group may have been a question before.
        before = former.get(path)
        label = ATTRIBUTES.get(path[-1], path[-1])
        base = before if before and is_asked(before) else Question(path, label=label)
        extra.append(msgspec.structs.replace(base, repeat=around))
    return extra


def _asking_more(form: Form, extra: Sequence[Question]) -> Form:
    return msgspec.structs.replace(form, questions=(*form.questions, *extra)) if extra else form
