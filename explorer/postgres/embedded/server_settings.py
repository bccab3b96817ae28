"""With which settings does the embedded server run? Some for all versions, some for new ones, memory by the machine's size."""

import os
from pathlib import Path

HOST = "127.0.0.1"

SERVER_SETTINGS = {
    "listen_addresses": HOST,
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "superuser_reserved_connections": "5",
    "max_locks_per_transaction": "128",
    # Ends a query within a second when its client is gone, not at its timeout.
    "client_connection_check_interval": "1000",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Failed statements may contain tenants' data; the error message is enough.
    "log_min_error_statement": "panic",
    # There is no replication, and with minimal, COPY and CREATE TABLE AS skip the log for tables of the same transaction.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    # WAL files are reused: writing and syncing a new one is 16 MB in the middle of a load.
    "min_wal_size": "512MB",
    "checkpoint_timeout": "15min",
}
SERVER_SETTINGS_SINCE_16 = {"reserved_connections": "10"}
# Room for the changes of a load: with less, sessions wait for the disk. A share of the machine's memory, within bounds.
SHARED_BUFFERS_SHARE = 1 / 16
SHARED_BUFFERS_MB = (128, 512)
# Not `synchronous_commit`: a killed server would lose what it had committed last.
UNSAFE_FAST_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


def shared_buffers_mb() -> int:
    """The size of the server's shared buffers in MB."""
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    least, most = SHARED_BUFFERS_MB
    return max(least, min(most, int(memory_mb * SHARED_BUFFERS_SHARE)))


def settings_for(major: int, port: int, sockets: Path | None, *, fsync: bool) -> dict[str, str]:
    """The settings of a server of this version. `sockets`: the folder of its Unix socket, if it has one."""
    settings = SERVER_SETTINGS | {"port": str(port), "shared_buffers": f"{shared_buffers_mb()}MB"}
    settings["unix_socket_directories"] = str(sockets or "")
    settings["unix_socket_permissions"] = "0700"
    settings |= SERVER_SETTINGS_SINCE_16 if major >= 16 else {}
    return settings | ({} if fsync else UNSAFE_FAST_SETTINGS)
