"""The paging of Tiny's resources."""

from explorer.providers.paging import Envelope, Keyset, Styles, Token

STYLES = Styles(
    paging={"by_id": Keyset(after="after"), "by_token": Token(token="page_token")},
    envelopes={"visits": Envelope(next=("next_token",))},
)
