"""How is a place in a submission written as one text, and what is a repeat group called as the source of a table?"""

from collections.abc import Collection

Path = tuple[str, ...]


def key_of(path: Path) -> str:
    """`path` as one text, joined by `/`. Keys that hold a slash or a blank, as JSON can and XML cannot, are escaped."""
    return "/".join(part.replace("~", "~0").replace("/", "~1").replace(" ", "~2") for part in path)


def path_of(key: str) -> Path:
    """The path that `key_of` gave."""
    return tuple(part.replace("~2", " ").replace("~1", "/").replace("~0", "~") for part in key.split("/"))


def repeat_source(xmlns: str, path: Path) -> str:
    """How a repeat group is called as the source of a table."""
    return f"{xmlns} {key_of(path)}"


def innermost(path: Path, repeats: Collection[Path]) -> Path | None:
    """The repeat group that `path` lies in."""
    return next((path[:length] for length in range(len(path) - 1, 0, -1) if path[:length] in repeats), None)
