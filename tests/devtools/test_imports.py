"""The reader of imports sees imports inside functions and finds circles."""

from pathlib import Path

from devtools.imports import cycles, imports_of, internal_edges, read_modules


def test_imports_are_seen_wherever_they_stand(tmp_path: Path) -> None:
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").write_text('"""A house."""\n')
    (package / "door.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "from . import roof\n"
        "if TYPE_CHECKING:\n    from house.wall import Wall\n"
        "def open():\n    import house.key\n"
    )
    for name in ("roof", "wall", "key"):
        (package / f"{name}.py").write_text("")
    modules = read_modules(tmp_path, ["house"])
    found = {(i.target, i.name, i.function, i.type_checking) for i in imports_of(modules["house.door"])}
    assert found == {
        ("typing", "TYPE_CHECKING", "", False),
        ("house", "roof", "", False),
        ("house.wall", "Wall", "", True),
        ("house.key", "", "open", False),
    }
    assert internal_edges(modules)["house.door"] == {"house.roof", "house.wall", "house.key"}


def test_a_circle_is_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]
    assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
