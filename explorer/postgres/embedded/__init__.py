"""A private PostgreSQL server under HOME: started by whoever asks first, found again, stopped by its owner.

`server` is the face. `cluster` knows the data folder and runs the programs on it (`binaries`, `server_settings`) as an
unprivileged account (`accounts`); `processes` knows which processes work in it.
"""

from explorer.postgres.embedded.cluster import ServerAddress
from explorer.postgres.embedded.server import STOP_TIMEOUT_S, EmbeddedPostgres, ServerStatus, embedded_from

__all__ = ["STOP_TIMEOUT_S", "EmbeddedPostgres", "ServerAddress", "ServerStatus", "embedded_from"]
