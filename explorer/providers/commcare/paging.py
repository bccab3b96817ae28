"""How are CommCare's resources paged, and what proves that a record is gone? Pipeline files use these names.

Sources: docs/commcare_api.md.
"""

from explorer.providers.paging import (
    AskEach,
    AskInBulk,
    Envelope,
    NextLink,
    Offset,
    ReadTwice,
    Single,
    Styles,
    TimeWindows,
    WholeDocuments,
)

STYLES = Styles(
    paging={
        # Case API v2: sorted by `indexed_on`, then id. `indexed_on.gt`, because HQ's cursor has an `indexed_on.gte` that would
        # collide with ours.
        "cursor": TimeWindows(
            field="indexed_on",
            lower="indexed_on.gt",
            upper="indexed_on.lte",
            lower_is_exclusive=True,
            with_zone=True,
            follows_links=True,
        ),
        # The form list: sorted by `indexed_on`, unsorted within a millisecond. It answers 400 to dates with a zone; dates are
        # UTC.
        "indexed_on": TimeWindows(
            field="indexed_on",
            lower="indexed_on_start",
            upper="indexed_on_end",
            follows_links=False,
            fixed=(("order_by", "indexed_on"),),
        ),
        # Other lists (tastypie); some are unsorted.
        "offset": Offset(),
        # UCR data: the link skips to after the last document, and is present whenever the page has rows.
        "link": NextLink(documents=WholeDocuments(document="doc_id", part="repeat_iteration")),
        "single": Single(),
    },
    proofs={
        "record": AskEach(),
        "bulk": AskInBulk(
            path="bulk-fetch/",
            ids="case_ids",
            records="cases",
            error="error",
            not_found="not found",
            most_ids=1000,
            collection="cases",
            title="case API v2",
        ),
        "walks": ReadTwice(),
    },
    # Case API v2 and similar ones; tastypie's lists are under `objects`.
    envelope=Envelope(next=("next",), total=("matching_records",)),
    envelopes={
        "objects": Envelope(next=("meta", "next"), total=("meta", "total_count"), limit=("meta", "limit")),
    },
)
