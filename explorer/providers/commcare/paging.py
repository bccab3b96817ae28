"""How are CommCare's resources paged, and what shows that a record is gone? The names are those of pipeline files.

Facts about each way: docs/commcare_api.md.
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
        # Case API v2: sorted by `indexed_on`, then id. `indexed_on.gt`, because HQ's cursor carries an `indexed_on.gte` of its
        # own that would collide with ours.
        "cursor": TimeWindows(
            field="indexed_on",
            lower="indexed_on.gt",
            upper="indexed_on.lte",
            lower_is_exclusive=True,
            with_zone=True,
            follows_links=True,
        ),
        # The form list: sorted by `indexed_on` in no certain order within a millisecond. It answers 400 to dates with a zone and
        # means UTC.
        "indexed_on": TimeWindows(
            field="indexed_on",
            lower="indexed_on_start",
            upper="indexed_on_end",
            follows_links=False,
            fixed=(("order_by", "indexed_on"),),
        ),
        # Other lists (tastypie); some are unsorted.
        "offset": Offset(),
        # UCR data: the link leads behind the last document, and is there whenever the page holds anything.
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
    # Case API v2 and its like; lists of tastypie are under `objects`.
    envelope=Envelope(next=("next",), total=("matching_records",)),
    envelopes={
        "objects": Envelope(next=("meta", "next"), total=("meta", "total_count"), limit=("meta", "limit")),
    },
)
