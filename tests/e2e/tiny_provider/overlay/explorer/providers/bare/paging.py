"""The paging of Bare's resources."""

from explorer.providers.paging import Envelope, Offset, Single, Styles

STYLES = Styles(paging={"by_position": Offset(), "at_once": Single()}, envelope=Envelope(total=("count",)))
