"""Carries what all instances share from dagster.yaml over to deploy/instance/: `python -m devtools.instances`."""

from pathlib import Path

from devtools.imports import ROOT

FOLDER = ROOT / "deploy" / "instance"
# Each file has its own of these, above the line; the rest is the same everywhere.
OWN = ("storage:", "run_launcher:", "run_monitoring:")
LINE = "# From here on as in the project's dagster.yaml, carried over by `python -m devtools.instances`."


def shared() -> str:
    """The sections of dagster.yaml that do not differ: blocks of text between empty lines, with their comments."""
    blocks = (ROOT / "dagster.yaml").read_text(encoding="utf-8").strip().split("\n\n")
    # The first says what that file is for.
    return "\n\n".join(block for block in blocks[1:] if not any(f"\n{key}" in f"\n{block}" for key in OWN))


def renewed(path: Path) -> str:
    """The file as it should be."""
    own = path.read_text(encoding="utf-8").partition(LINE)[0].rstrip()
    return f"{own}\n\n{LINE}\n\n{shared()}\n"


def files() -> list[Path]:
    """The instances; what else is in the folder is not one."""
    return sorted(path for path in FOLDER.glob("*.yaml") if LINE in path.read_text(encoding="utf-8"))


def main() -> None:
    """Write the present sections into each file."""
    for path in files():
        path.write_text(renewed(path), encoding="utf-8")


if __name__ == "__main__":
    main()
