"""With which settings does the embedded server run? A few for all, more where PostgreSQL is new, memory by the machine's."""

import os

HOST = "127.0.0.1"

SERVER_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "superuser_reserved_connections": "5",
    "max_locks_per_transaction": "128",
    # A query whose client is gone ends within a second instead of at its timeout.
    "client_connection_check_interval": "1000",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Failed statements may carry tenants' data; their error message is enough.
    "log_min_error_statement": "panic",
    # Nothing replicates from here, and minimal lets COPY and CREATE TABLE AS skip the log for tables of the same transaction.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    # Its files are used again: a new one is 16 MB to write and sync in the middle of a load.
    "min_wal_size": "512MB",
    "checkpoint_timeout": "15min",
}
SERVER_SETTINGS_SINCE_16 = {"reserved_connections": "10"}
# Room for what a load changes: with less, sessions wait for the disk. A share of the machine's memory, within bounds.
SHARED_BUFFERS_SHARE = 1 / 16
SHARED_BUFFERS_MB = (128, 512)
UNSAFE_FAST_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def shared_buffers_mb() -> int:
    """What the server's processes share, in MB."""
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    least, most = SHARED_BUFFERS_MB
    return max(least, min(most, int(memory_mb * SHARED_BUFFERS_SHARE)))


def settings_for(major: int, port: int, *, fsync: bool) -> dict[str, str]:
    """What a server of this version is started with."""
    settings = SERVER_SETTINGS | {"port": str(port), "shared_buffers": f"{shared_buffers_mb()}MB"}
    settings |= SERVER_SETTINGS_SINCE_16 if major >= 16 else {}
    return settings | ({} if fsync else UNSAFE_FAST_SETTINGS)
