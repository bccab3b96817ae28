"""When are two words equal in a search? Without case and accents, in any language.

Names of tables and columns come from `identifiers`; this module only compares texts.
"""

import html
import re
import unicodedata

# Combining marks that are accents or points: of Latin, Greek and Cyrillic, and the vowel points of Hebrew and Arabic. Marks of
# other scripts are vowels: without them words become other words.
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1-\u05c2\u05c4-\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
_BETWEEN = re.compile(r"[\s\-./,;:()\[\]{}|?!'\"*=<>«»“”‘’،؟。、，]+")


def fold(text: str) -> str:
    """`text` for comparison: without case, accents, widths and ligatures, Hangul syllables composed; `é` and `E` are both `e`."""
    if text.isascii():
        return text.lower()
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", bare.casefold())


def words(text: str) -> list[str]:
    """The folded words of `text`, in order; parts of an identifier are words too."""
    return [word for word in _BETWEEN.sub(" ", fold(text)).replace("_", " ").split() if word]


# Formatting of labels: HTML, links and images of Markdown, emphasis, headings and lists.
_TAG = re.compile(r"</?[a-zA-Z!][^<>]*>")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_EMPHASIS = re.compile(r"[*_`~#]+")
_START = re.compile(r"^(?:[-+>]|\d+[.)])\s+", re.MULTILINE)
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069\u200e\u200f]")
_END = " :;*?!.…"
_PARTS = re.compile(
    r"\d+|[^\W\d_]+(?:[^\W\d_]|[\u0300-\u036f\u0900-\u0dff\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u200c\u200d\0])*|\0"
)


def plain(label: str) -> str:
    """A label as shown on the screen, folded: without HTML, Markdown, list number and final colon."""
    text = html.unescape(label)
    text = _LINK.sub(r"\1", _TAG.sub(" ", text))
    text = _EMPHASIS.sub(" ", _INVISIBLE.sub("", _START.sub("", text.strip())))
    return " ".join(fold(_START.sub("", text.strip())).split()).strip(_END)


def spoken(text: str) -> list[str]:
    """The folded words of a text or an identifier. Unlike in `words`, adjacent letters and digits are two words."""
    return _PARTS.findall(fold(text))
