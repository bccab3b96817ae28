"""The job of a benchmark's worker process, and its settings."""

from pathlib import Path
from typing import Any

from explorer.core.settings import Settings

Job = dict[str, Any]
# The limiter protects other people's servers; this one is ours.
_REQUESTS_PER_SECOND = 1000


def benchmark_settings(home: Path) -> Settings:
    """The settings of the run: the defaults with this `home`; the environment is ignored."""
    return Settings(_env_file=None, home=home, database_url=None, requests_per_second=_REQUESTS_PER_SECOND)
