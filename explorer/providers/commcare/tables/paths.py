"""How is a path in a submission written as one text, and how is a repeat group identified as the source of a table?"""

from collections.abc import Collection

Path = tuple[str, ...]


def key_of(path: Path) -> str:
    """`path` as one text, joined by `/`. Keys with a slash or a blank, which JSON allows and XML does not, are escaped."""
    return "/".join(part.replace("~", "~0").replace("/", "~1").replace(" ", "~2") for part in path)


def path_of(key: str) -> Path:
    """The path of a `key_of` result."""
    return tuple(part.replace("~2", " ").replace("~1", "/").replace("~0", "~") for part in key.split("/"))


def repeat_source(xmlns: str, path: Path) -> str:
    """The source name of a repeat group's table."""
    return f"{xmlns} {key_of(path)}"


def innermost(path: Path, repeats: Collection[Path]) -> Path | None:
    """The innermost repeat group around `path`."""
    return next((path[:length] for length in range(len(path) - 1, 0, -1) if path[:length] in repeats), None)
