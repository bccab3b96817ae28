"""The content of each project space, and its changes.

`World` holds the project spaces; `Project` is one of them with its content and every change that the control switches
can make. Cases are always computed from the forms that are not archived.
"""

import copy
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from demo_commcare.bulk import BulkHistory
from demo_commcare.clock import Clock, iso, parse_instant
from demo_commcare.index import BulkView, DocumentIndex, Query
from demo_commcare.programme.app_model import App, Question, extras_of, render_app, render_question
from demo_commcare.programme.data_sources import DataSource, maternal_data_sources
from demo_commcare.programme.journal import case_block, index_to, system_body
from demo_commcare.programme.maternal_apps import maternal_apps
from demo_commcare.programme.maternal_story import DEFAULT_HOUSEHOLDS, maternal_story
from demo_commcare.programme.nutrition_apps import nutrition_apps
from demo_commcare.programme.nutrition_story import nutrition_story
from demo_commcare.programme.people import People, maternal_people, nutrition_people
from demo_commcare.records import CaseRecord, FormRecord, block_actions, case_blocks, fold_case

Json = dict[str, Any]
MATERNAL, NUTRITION = "demo-maternal-health", "demo-nutrition"
NO_SUBSCRIPTION, FOREIGN = "demo-no-subscription", "demo-foreign"
USER_CONFIGURABLE_REPORTS, EXPORT_DATA_SOURCE_DATA = "user_configurable_reports", "export_data_source_data"
FEATURES = (USER_CONFIGURABLE_REPORTS, EXPORT_DATA_SOURCE_DATA)
DEMO_USERNAME = "demo@example.org"
_CASES_PER_HOUSEHOLD = 6
_LARGEST_STORY = 2_000
_REINDEX_SPAN_US = 1_000_000
_CASES_PER_IMPORT = 1_000
_INDEX_DELAY_US = 1_700_000


class UnknownDocument(LookupError):
    """A control switch named a document that does not exist."""


@dataclass
class Truth:
    """The complete present content of one project space in the API's shape (addresses relative to the server)."""

    project: "Project"

    @property
    def cases(self) -> list[Json]:
        return list(self.iter_cases())

    @property
    def forms(self) -> list[Json]:
        """All forms, also archived ones (`archived` is true)."""
        return list(self.iter_forms())

    def iter_cases(self) -> Iterator[Json]:
        return self.project.cases.objects()

    def iter_forms(self) -> Iterator[Json]:
        return self.project.forms.objects()

    @property
    def case_count(self) -> int:
        return self.project.cases.count()

    @property
    def form_count(self) -> int:
        return self.project.forms.count()

    @property
    def form_cases(self) -> list[Json]:
        """One row per (form, case, action), without archived forms."""
        rows = []
        for form in self.iter_forms():
            for block in () if form["archived"] else case_blocks(form["form"]):
                actions = block_actions(block) or ["touch"]
                rows += [{"form_id": form["id"], "case_id": block["@case_id"], "action": action} for action in actions]
        return rows

    @property
    def applications(self) -> list[Json]:
        return copy.deepcopy(self.project.applications)

    @property
    def users(self) -> list[Json]:
        """Mobile workers with the extra key `is_active`."""
        return copy.deepcopy(self.project.people.users)

    @property
    def web_users(self) -> list[Json]:
        return copy.deepcopy(self.project.people.web_users)

    @property
    def groups(self) -> list[Json]:
        return copy.deepcopy(self.project.people.groups)

    @property
    def locations(self) -> list[Json]:
        """With `type_id` and `parent_id` in place of addresses."""
        return copy.deepcopy(self.project.people.locations)

    @property
    def location_types(self) -> list[Json]:
        return copy.deepcopy(self.project.people.location_types)

    @property
    def lookup_tables(self) -> list[Json]:
        return copy.deepcopy(self.project.people.lookup_tables)

    @property
    def lookup_table_items(self) -> list[Json]:
        return copy.deepcopy(self.project.people.lookup_table_items)

    @property
    def ucr_data_sources(self) -> list[Json]:
        return [source.api() for source in self.project.data_sources]

    @property
    def ucr_rows(self) -> list[Json]:
        """Rows of all data sources, with the extra key `data_source_id`."""
        return [
            {"data_source_id": source.source_id, **row}
            for source in self.project.data_sources
            for row in self.project.ucr_rows(source)
        ]


TRUTH_RESOURCES = (
    "cases", "forms", "form_cases", "applications", "users", "web_users", "groups", "locations", "location_types",
    "lookup_tables",
    "lookup_table_items",
    "ucr_data_sources",
    "ucr_rows",
)  # fmt: skip


@dataclass(frozen=True)
class Story:
    """The submissions of a programme in order of reception, and the cases computed from them."""

    forms: tuple[FormRecord, ...]
    cases: tuple[CaseRecord, ...]

    @classmethod
    def of(cls, forms: list[FormRecord]) -> "Story":
        cases: dict[str, CaseRecord] = {}
        for form in forms:
            for block in () if form.archived else case_blocks(form.form):
                case = fold_case(cases.get(block["@case_id"]), block, form, parse_instant(block["@date_modified"])[0])
                cases[case.doc_id] = replace(case, indexed_us=max(case.indexed_us, form.received_us + _INDEX_DELAY_US))
        return cls(tuple(forms), tuple(cases.values()))


@lru_cache(maxsize=4)
def _maternal_story(seed: int, households: int) -> Story:
    """The story of the maternal programme. Records are immutable, so all servers of one process share it."""
    return Story.of(maternal_story(MATERNAL, seed, maternal_people(MATERNAL, seed), households))


@lru_cache(maxsize=4)
def _nutrition_story(seed: int) -> Story:
    return Story.of(nutrition_story(NUTRITION, seed, nutrition_people(NUTRITION, seed)))


@dataclass
class Project:
    """One project space. Every method that changes it must run under the world's lock."""

    name: str
    title: str
    people: People
    applications: list[Json]
    application_extras: dict[str, Json]
    clock: Clock
    cases: DocumentIndex[CaseRecord]
    forms: DocumentIndex[FormRecord]
    subscribed: bool = True
    # User names. The others who ever were web users are kept for the day that they come back.
    members: set[str] = field(default_factory=lambda: {DEMO_USERNAME})
    former_web_users: dict[str, Json] = field(default_factory=dict)
    bulk: BulkHistory | None = None
    data_sources: tuple[DataSource, ...] = ()
    features: set[str] = field(default_factory=lambda: set(FEATURES))
    _forms_of_case: dict[str, list[str]] = field(default_factory=dict)
    _deleted_cases: set[str] = field(default_factory=set)
    _next_change: int = 1

    def load_story(self, story: "Story") -> None:
        """Load a story's forms and cases."""
        self.forms.load(story.forms)
        self.cases.load(story.cases)
        for form in story.forms:
            self._link(form)

    def submit(self, blocks: list[Json], user_id: str = "demo-control") -> str:
        """Process a server-made submission with these case blocks. Returns the form's id."""
        form_id = f"demo{self._next_change:08x}-0000-4000-a000-{self._next_change:012x}"
        self._next_change += 1
        now = self.clock.now_us()
        body = system_body(self.name, form_id, now, user_id, blocks)
        form = FormRecord(self.name, form_id, body["form"]["@xmlns"], None, now, now, now, body)
        self._link(form)
        self.forms.put(form)
        for block in blocks:
            case = fold_case(self.cases.get(block["@case_id"]), block, form, now)
            self.cases.put(case)
        return form_id

    def create_case(self, case_type: str, name: str, properties: dict[str, str], parent_id: str | None = None) -> str:
        """Create a case; returns its id."""
        case_id = f"case{self._next_change:08x}-0000-4000-a000-{self._next_change:012x}"
        index = {}
        if parent_id is not None:
            index["parent"] = index_to(parent_id, self._case(parent_id).case_type)
        create = {"case_type": case_type, "case_name": name, "owner_id": "demo-control"}
        self.submit([case_block(case_id, "demo-control", self.clock.now_us(), create, properties, index or None)])
        return case_id

    def update_case(self, case_id: str, properties: dict[str, str]) -> str:
        """Change properties (or case_name, owner_id, external_id); returns the id of the form that did it."""
        self._case(case_id)
        return self.submit([case_block(case_id, "demo-control", self.clock.now_us(), update=properties)])

    def update_every_nth_case(self, nth: int, properties: dict[str, str]) -> int:
        """Change every nth case as a mass import does, by submissions of up to 1,000 case blocks; returns the number of cases."""
        everything = self.cases.select(Query("all", None), "indexed_us")
        ids = [everything.key(case)[1] for case in everything.page(0, len(everything))[::nth]]
        for start in range(0, len(ids), _CASES_PER_IMPORT):
            now = self.clock.now_us()
            chosen = ids[start : start + _CASES_PER_IMPORT]
            self.submit([case_block(case_id, "demo-control", now, update=properties) for case_id in chosen])
        # Rendered once now, so that a benchmark of the next incremental load does not measure this server.
        self.cases.render([case for case in map(self.cases.get, ids) if case is not None], "")
        return len(ids)

    def close_case(self, case_id: str) -> str:
        self._case(case_id)
        return self.submit([case_block(case_id, "demo-control", self.clock.now_us(), close=True)])

    def delete_case(self, case_id: str) -> None:
        """Delete the case without a trace, as HQ does."""
        self._case(case_id)
        self._deleted_cases.add(case_id)
        self.cases.remove(case_id)

    def archive_form(self, form_id: str, archived: bool = True) -> None:
        """Archive or restore a form and rebuild its cases."""
        form = replace(self._form(form_id), archived=archived, server_modified_us=self.clock.now_us())
        self._replace_form(form)

    def edit_form(self, form_id: str, changes: dict[str, str]) -> None:
        """Set answers by path (`exam/weight_kg`); case updates with the same name and value change too."""
        form = self._form(form_id)
        body = copy.deepcopy(form.body)
        for path, value in changes.items():
            _set_answer(body["form"], path.split("/"), value)
        now = self.clock.now_us()
        self._replace_form(replace(form, body=body, edited_us=now, edited_by="demo-control", server_modified_us=now))

    def delete_form(self, form_id: str) -> None:
        form = self._form(form_id)
        self.forms.remove(form_id)
        for case_id in form.case_ids():
            self._rebuild(case_id)

    def delete_record(self, resource: str, record_id: str) -> None:
        """Delete a record of one of the lists of `people`, by `id` or `location_id`."""
        records = getattr(self.people, resource)
        left = [one for one in records if record_id not in (str(one.get("id")), one.get("location_id"))]
        if len(left) == len(records):
            raise UnknownDocument(f"No {resource} {record_id}")
        records[:] = left

    def set_user_active(self, user_id: str, active: bool) -> None:
        """Deactivate or reactivate a mobile worker; groups list only active ones."""
        user = next((user for user in self.people.users if user["id"] == user_id), None)
        if user is None:
            raise UnknownDocument(f"mobile worker {user_id}")
        user["is_active"] = active
        for group in self.people.groups:
            group["users"] = [u["id"] for u in self.people.users if group["id"] in u["groups"] and u["is_active"]]

    def add_question(self, app_id: str, form_xmlns: str, name: str, question_type: str = "Text") -> int:
        """Add a question at the end of a form wherever it occurs in the app; returns the app's new version."""
        app = next((app for app in self.applications if app["id"] == app_id), None)
        if app is None:
            raise UnknownDocument(f"application {app_id}")
        for module in app["modules"]:
            for form in module.get("forms", ()):
                if form["xmlns"] == form_xmlns:
                    root = form["questions"][0]["value"].split("/")[1]
                    question = Question(name, question_type, name)
                    form["questions"].append(render_question(question, f"/{root}/{name}", None, None, "en"))
        app["version"] += 1
        return int(app["version"])

    def set_applications(self, applications: list[Json]) -> None:
        """Replace the applications."""
        self.applications = copy.deepcopy(applications)
        self.application_extras = {app["id"]: self.application_extras.get(app["id"], {}) for app in applications}

    def reindex(self, one_instant: bool = False) -> None:
        """Give all cases and forms a new `indexed_on` (`one_instant`: the same one); nothing else changes."""
        span_us = 0 if one_instant else _REINDEX_SPAN_US
        # The next millisecond, so that no document's instant goes back.
        start_us = (self.clock.reserve_us(span_us) // 1000 + 1) * 1000
        if self.bulk is not None:
            self.bulk.reindex(start_us, span_us)
        for index in (self.cases, self.forms):
            index.reindex(start_us if one_instant else None)

    def set_index_lag(self, lag_s: float) -> None:
        self.cases.lag_s = self.forms.lag_s = lag_s

    def settle_index(self) -> None:
        """Index all waiting changes."""
        self.cases.settle(everything=True)
        self.forms.settle(everything=True)

    def ucr_rows(self, source: DataSource) -> list[Json]:
        """The rows of a data source over the indexed documents, in the order of its table."""
        rows = [
            {"id": record.doc_id, "doc_id": record.doc_id, "inserted_at": iso(instant_us), **indicators}
            for record, instant_us in self._sources_of(source)
            for indicators in source.rows(record)
        ]
        return sorted(rows, key=lambda row: (row["inserted_at"], row["doc_id"]))

    def _sources_of(self, source: DataSource) -> list[tuple[CaseRecord | FormRecord, int]]:
        """The documents of the data source's kind, and when each was last processed."""
        if source.doc_type == "CommCareCase":
            cases = self.cases.select(Query("kept", None, residues=()), "indexed_us")
            return [(case, case.server_modified_us) for case in map(self.cases.record, cases.page(0, len(cases)))]
        forms = self.forms.select(Query("kept", None, residues=()), "indexed_us")
        records = map(self.forms.record, forms.page(0, len(forms)))
        return [(form, form.received_us) for form in records if not form.archived]

    def forms_of_case(self, case_id: str) -> set[str]:
        """Ids of the forms with a block for the case."""
        ids = set(self._forms_of_case.get(case_id, ()))
        number = self.bulk.case_number(case_id) if self.bulk else None
        if self.bulk and number is not None:
            ids.add(self.bulk.form_id(number))
        return ids

    def _replace_form(self, form: FormRecord) -> None:
        self.forms.put(form)
        for case_id in form.case_ids():
            self._rebuild(case_id)

    def _rebuild(self, case_id: str) -> None:
        """Compute the case again from its forms; without forms it is removed."""
        if case_id in self._deleted_cases:
            return
        found = (self.forms.get(form_id) for form_id in self.forms_of_case(case_id))
        forms = sorted(
            (form for form in found if form and not form.archived), key=lambda form: (form.received_us, form.doc_id)
        )
        case: CaseRecord | None = None
        for form in forms:
            for block in case_blocks(form.form):
                if block["@case_id"] == case_id:
                    case = fold_case(case, block, form, parse_instant(block["@date_modified"])[0])
        if case is None:
            self.cases.remove(case_id)
        else:
            self.cases.put(replace(case, server_modified_us=self.clock.now_us()))

    def _link(self, form: FormRecord) -> None:
        for case_id in form.case_ids():
            self._forms_of_case.setdefault(case_id, []).append(form.doc_id)

    def _case(self, case_id: str) -> CaseRecord:
        case = self.cases.get(case_id)
        if case is None:
            raise UnknownDocument(f"case {case_id}")
        return case

    def _form(self, form_id: str) -> FormRecord:
        form = self.forms.get(form_id)
        if form is None:
            raise UnknownDocument(f"form {form_id}")
        return form


def _set_answer(form: Json, path: list[str], value: str) -> None:
    node: Any = form
    for step in path[:-1]:
        node = node[int(step)] if isinstance(node, list) else node.setdefault(step, {})
    old = node.get(path[-1])
    node[path[-1]] = value
    for block in case_blocks(form):
        update = block.get("update") or {}
        if update.get(path[-1]) == old and path[-1] in update:
            update[path[-1]] = value


class World:
    """All project spaces of the demo server.

    `cases` scales the maternal programme: None is the default size. Up to 2000 the story gets more households; beyond that a
    computed history comes before the story.
    """

    def __init__(self, seed: int = 1, cases: int | None = None) -> None:
        self.lock = threading.RLock()
        self.clock = Clock()
        self.projects = {
            project.name: project
            for project in (
                self._maternal(seed, cases),
                self._nutrition(seed),
                self._empty(NO_SUBSCRIPTION, "Demo without subscription", subscribed=False),
                self._empty(FOREIGN, "Demo of somebody else", members=set()),
            )
        }

    def truth(self, domain: str) -> Truth:
        return Truth(self.projects[domain])

    def _maternal(self, seed: int, cases: int | None) -> Project:
        people = maternal_people(MATERNAL, seed)
        apps = maternal_apps()
        households = DEFAULT_HOUSEHOLDS
        if cases is not None and cases <= _LARGEST_STORY:
            households = max(1, cases // _CASES_PER_HOUSEHOLD)
        story = _maternal_story(seed, households)
        bulk = None
        if cases is not None and cases > _LARGEST_STORY:
            bulk = BulkHistory(MATERNAL, cases - len(story.cases), seed, people.users, apps[0])
        project = self._project(MATERNAL, "Demo: Maternal Health", people, apps, bulk)
        project.data_sources = maternal_data_sources()
        project.load_story(story)
        return project

    def _nutrition(self, seed: int) -> Project:
        people = nutrition_people(NUTRITION, seed)
        project = self._project(NUTRITION, "Démo : Nutrition de l'enfant", people, nutrition_apps(), None)
        project.load_story(_nutrition_story(seed))
        return project

    def _empty(
        self, name: str, title: str, subscribed: bool = True, members: Iterable[str] = (DEMO_USERNAME,)
    ) -> Project:
        project = self._project(name, title, People([], [], [], [], [], [], []), (), None)
        project.subscribed, project.members = subscribed, set(members)
        return project

    def _project(
        self, name: str, title: str, people: People, apps: tuple[App, ...], bulk: BulkHistory | None
    ) -> Project:
        case_view: BulkView[CaseRecord] | None = None
        form_view: BulkView[FormRecord] | None = None
        if bulk is not None:
            case_fields = {
                "indexed_us": bulk.indexed_ms,
                "server_modified_us": bulk.event_ms,
                "modified_us": bulk.device_ms,
                "opened_us": bulk.device_ms,
            }
            form_fields = {
                "indexed_us": bulk.indexed_ms,
                "server_modified_us": bulk.event_ms,
                "received_us": bulk.event_ms,
            }
            case_view = BulkView(
                bulk,
                case_fields,
                bulk.case_id,
                bulk.case_number,
                bulk.case,
                lambda numbers, _root: bulk.render_cases(numbers),
            )
            form_view = BulkView(bulk, form_fields, bulk.form_id, bulk.form_number, bulk.form, bulk.render_forms)
        return Project(
            name, title, people, [render_app(app) for app in apps], {app.app_id: extras_of(app) for app in apps}, self.clock,
            DocumentIndex(self.clock, case_view), DocumentIndex(self.clock, form_view), bulk=bulk,
            members={user["username"] for user in people.web_users},
        )  # fmt: skip
