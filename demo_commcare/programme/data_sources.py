"""The UCR data sources of the maternal programme, and the rows of a document.

One is over forms, one over cases, and one unfolds a repeat, so that several of its rows share a `doc_id`. They cover the story
and later changes, but not the computed history of mass data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from demo_commcare.programme import maternal_apps
from demo_commcare.records import CaseRecord, FormRecord

Json = dict[str, Any]
Rows = Callable[[Any], list[Json]]


@dataclass(frozen=True)
class DataSource:
    """`rows` returns the indicators of one document, an empty list when the filter excludes it."""

    source_id: str
    display_name: str
    doc_type: Literal["XFormInstance", "CommCareCase"]
    filter_value: str
    indicators: tuple[tuple[str, str], ...]
    rows: Rows

    def api(self) -> Json:
        """The entry of the list."""
        return {"id": self.source_id, "display_name": self.display_name}

    def api_detail(self) -> Json:
        """The entry with its configured filter and indicators."""
        of_form = self.doc_type == "XFormInstance"
        path = ["form", "@xmlns"] if of_form else ["type"]
        return {
            **self.api(),
            "configured_filter": {
                "type": "boolean_expression",
                "operator": "eq",
                "expression": {"type": "property_path", "property_path": path},
                "property_value": self.filter_value,
            },
            "configured_indicators": [
                {"column_id": name, "datatype": kind, "type": "expression"} for name, kind in self.indicators
            ],
        }


def maternal_data_sources() -> tuple[DataSource, ...]:
    """Visits of pregnant women, women of newly registered households (a repeat), and mothers."""
    return (
        DataSource(
            "5f0a0000000000000000000000000001",
            "ANC visits",
            "XFormInstance",
            maternal_apps.ANC.xmlns,
            (("visit_date", "date"), ("weight_kg", "decimal"), ("risk_score", "integer")),
            _anc_visits,
        ),
        DataSource(
            "5f0a0000000000000000000000000002",
            "Women registered with their household",
            "XFormInstance",
            maternal_apps.HOUSEHOLD.xmlns,
            (("village", "string"), ("woman", "string"), ("age", "integer")),
            _women,
        ),
        DataSource(
            "5f0a0000000000000000000000000003",
            "Mothers",
            "CommCareCase",
            "mother",
            (("name", "string"), ("age", "integer"), ("open", "small_integer")),
            _mothers,
        ),
    )


def _anc_visits(form: FormRecord) -> list[Json]:
    if form.xmlns != maternal_apps.ANC.xmlns:
        return []
    answers = form.form
    return [
        {
            "visit_date": answers.get("visit_date"),
            "weight_kg": _number(answers["exam"].get("weight_kg"), float),
            "risk_score": _number(answers.get("risk_score"), int),
        }
    ]


def _women(form: FormRecord) -> list[Json]:
    women = form.form.get("women") if form.xmlns == maternal_apps.HOUSEHOLD.xmlns else None
    several = women if isinstance(women, list) else [women] if isinstance(women, dict) else []
    village = form.form["address"]["village"] if several else None
    return [
        {
            "repeat_iteration": iteration,
            "village": village,
            "woman": woman["woman_name"],
            "age": _number(woman.get("age"), int),
        }
        for iteration, woman in enumerate(several)
    ]


def _mothers(case: CaseRecord) -> list[Json]:
    if case.case_type != "mother":
        return []
    age = _number(case.properties.get("age"), int)
    return [{"name": case.case_name, "age": age, "open": 0 if case.closed else 1}]


def _number(text: Any, kind: type[int] | type[float]) -> float | None:
    """A value that does not fit the indicator's type becomes null, as in UCR."""
    try:
        return kind(text)
    except (TypeError, ValueError):
        return None
