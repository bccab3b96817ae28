"""What is a worker process of the benchmarks told, and with which settings does it work?"""

from pathlib import Path
from typing import Any

from explorer.core.settings import Settings

Job = dict[str, Any]
# The limiter guards the servers of others; this one is ours.
_REQUESTS_PER_SECOND = 1000


def benchmark_settings(home: Path) -> Settings:
    """The settings of the run: the defaults, whatever the environment says, in `home`."""
    return Settings(_env_file=None, home=home, database_url=None, requests_per_second=_REQUESTS_PER_SECOND)
