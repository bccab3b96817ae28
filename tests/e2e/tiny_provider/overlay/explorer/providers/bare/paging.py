"""The paging of Bare's resources."""

from explorer.providers.bare.sources import meters

from explorer.providers.paging import Envelope, Offset, Resource, Single, Styles

STYLES = Styles(
    paging={"by_position": Offset(), "at_once": Single()},
    resources={"meters": Resource(meters)},
    envelope=Envelope(total=("count",)),
)
