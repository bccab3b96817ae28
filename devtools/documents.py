"""Which part of a hand-written document is generated? What stands between two marks of one name."""

from pathlib import Path


def renewed(text: str, mark: str, content: str) -> str:
    """The document's text with `content` between the marks `<!-- mark -->` and `<!-- /mark -->`, which have lines of their own.

    Raises:
        ValueError: the document has no such marks.
    """
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->\n"
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"the document has no lines {begin.strip()} and {end.strip()}")
    return f"{before}{begin}{content}{end}{after}"


def renew(path: Path, **contents: str) -> None:
    """Write the contents into the document, by their marks."""
    text = path.read_text(encoding="utf-8")
    for mark, content in contents.items():
        text = renewed(text, mark, content)
    path.write_text(text, encoding="utf-8")
