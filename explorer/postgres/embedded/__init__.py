"""A private PostgreSQL server under HOME: started by the first process that needs it, stopped by its owner.

`server` is the public interface. `cluster` knows the data folder and runs programs on it (`binaries`, `server_settings`) under an
unprivileged account (`accounts`); `processes` finds the processes that work in it.
"""

from explorer.postgres.embedded.cluster import ServerAddress
from explorer.postgres.embedded.server import STOP_TIMEOUT_S, EmbeddedPostgres, ServerStatus, embedded_from

__all__ = ["STOP_TIMEOUT_S", "EmbeddedPostgres", "ServerAddress", "ServerStatus", "embedded_from"]
