"""A provider's pipeline files may name only existing styles of paging, in combinations that work."""

from typing import Any

import pytest

from explorer.providers.commcare.paging import STYLES
from explorer.providers.paging import (
    Keyset,
    NextLink,
    Offset,
    Single,
    Styles,
    TimeWindows,
    Token,
    WholeDocuments,
    delivers_once,
)
from explorer.registry import Pipeline, Source, Transforms

OWN = Styles(paging={"ids": Keyset(after="after"), "list": Offset()})


def pipeline(**changes: Any) -> Pipeline:
    described: dict[str, Any] = {
        "name": "things", "table": "raw_things", "description": "", "endpoint": "things/", "paging": "ids", "collection": "rows",
        "primary_key": "thing_id", "keys": {"thing_id": "text"},
    }  # fmt: skip
    return Pipeline(
        name="own", title="", description="", provider="own", asset_prefix="own", discovery=(),
        sources=(Source(**{**described, "name": "others", "table": "raw_others"}), Source(**{**described, **changes})),
        transforms=Transforms(dbt_project="dbt", description=""),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({}, []),
        ({"paging": "list"}, []),
        ({"paging": "cursor"}, [(("sources", 1, "paging"), "Input should be 'ids' or 'list'")]),
        ({"proof": "record"}, [(("sources", 1, "proof"), "Input should be 'walks'")]),
        ({"key_from": "occurrence"}, []),
        (
            {"key_from": "occurrence", "paging": "list"},
            [
                (
                    ("sources", 1),
                    "Value error, key_from occurrence needs each record once: paging list may bring some again",
                )
            ],
        ),
    ],
)
def test_faults_name_the_source_and_what_there_is(changes: dict[str, Any], faults: list[Any]) -> None:
    assert list(OWN.faults(pipeline(**changes))) == faults


@pytest.mark.parametrize(
    ("paging", "once"),
    [
        (Keyset(after="after"), True),
        (Token(token="cursor"), True),
        (Single(), True),
        (NextLink(), True),
        (NextLink(documents=WholeDocuments("doc_id", "part")), False),
        (Offset(), False),
        (TimeWindows(field="at", lower="from", upper="to", follows_links=True), False),
    ],
)
def test_which_ways_bring_a_record_once(paging: Any, once: bool) -> None:
    assert delivers_once(paging) is once


def test_the_styles_of_commcare_have_the_names_of_its_pipelines() -> None:
    assert list(STYLES.paging) == ["cursor", "indexed_on", "offset", "link", "single"]
    assert list(STYLES.proofs) == ["record", "bulk", "walks"]
