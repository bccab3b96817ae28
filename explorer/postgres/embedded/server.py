"""How is the private PostgreSQL under HOME started, found and stopped?

One server per HOME, on loopback TCP and a Unix socket in a folder that only its account can enter, with SCRAM on both. The
process that starts it owns it: only the owner, or an explicit `force`, stops it. `bootstrap` and `provisioning` make its
databases, roles and tenants.

Started by root, the server runs under an unprivileged account (configured, else `postgres`, else `nobody`; or the owner of
existing data), whose group lets it into its own folder. No account is made, and no folder around HOME is changed. Where that
account cannot reach HOME, for instance under a /root of mode 700, the data are in /var/lib/explorer-<hash of HOME>;
`connection.json` records the place.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from explorer.core.home import make_home
from explorer.core.ports import free_port, port_free
from explorer.core.processes import ProcessIdentity
from explorer.core.settings import Settings
from explorer.postgres.embedded.accounts import Account, account_for, can_enter
from explorer.postgres.embedded.cluster import HANGING_S, Cluster, ServerAddress
from explorer.postgres.embedded.server_settings import HOST
from explorer.postgres.errors import PostgresNotOwner, PostgresNotStartable, PostgresPortInUse
from explorer.postgres.state import CONNECTION_FILE, ConnectionRecord, home_lock, read_record, update_record

STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class ServerStatus:
    """The result of `status()`; `owner_pid` is None when the process that started the server has ended."""

    running: bool
    address: ServerAddress | None
    owner_pid: int | None
    data_dir: Path | None
    log_file: Path | None


class EmbeddedPostgres:
    """The server of one HOME. Objects are cheap and stateless: any process may make one."""

    def __init__(
        self,
        home: Path,
        *,
        port: int = 0,
        os_user: str | None = None,
        memory_mb: int = 640,
        bin_dir: Path | None = None,
        fsync: bool = True,
    ) -> None:
        """`port` 0 picks a free one and keeps it; `memory_mb` limits each server process beside shared memory (Linux; 0: no
        limit).

        `fsync=False` trades the data's safety in a power cut for speed: for tests. Killed, the server comes back all the same.
        """
        self.home = Path(home).expanduser().resolve()
        self._port = port
        self._os_user = os_user
        self._memory_mb = memory_mb
        self._bin_dir = bin_dir
        self._fsync = fsync

    def start(self) -> ServerAddress:
        """Start the server, or find the running one. Concurrent callers get the same server.

        Raises:
            PostgresNotStartable: with the last lines of its log; PostgresPortInUse and PostgresBinariesMissing are subclasses.
            DatabaseNotReady: `connection.json` is damaged or belongs to another account.
        """
        make_home(self.home)
        try:
            with home_lock(self.home, "postgres"):
                return self._start_locked()
        except subprocess.TimeoutExpired as error:
            raise PostgresNotStartable(
                f"The embedded PostgreSQL did not answer within {error.timeout:.0f} s.",
                next_step="See what keeps the machine or its disk busy, and start again.",
            ) from error
        except OSError as error:
            raise PostgresNotStartable(
                f"The embedded PostgreSQL did not start: {error.strerror} ({error.filename}).",
                next_step="Set EXPLORER_HOME to a folder with space, of the account you run as.",
            ) from error

    def stop(self, *, force: bool = False, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """Stop the server; True when one was running. Sessions are ended, committed data are on disk.

        A fast shutdown first, which writes what is in memory. Sessions that do not end (PostgreSQL cannot interrupt some
        functions) get `HANGING_S`, all together `timeout_s`. Then comes an immediate shutdown, and remaining processes are
        killed. Data are safe in every case: `needs_recovery` says whether the next start replays the log.

        Raises:
            PostgresNotOwner: another process started it and `force` was not given.
        """
        if not self.home.is_dir() or read_record(self.home) is None:
            return False
        with contextlib.ExitStack() as stack:
            # A starting process holds the lock until the server is ready, which may take long: then the server is stopped
            # without the lock.
            with contextlib.suppress(PostgresNotStartable):
                stack.enter_context(home_lock(self.home, "postgres", HANGING_S))
            cluster = self._cluster()
            if cluster is None or not cluster.processes():
                return False
            owner = (read_record(self.home) or ConnectionRecord()).owner
            if not force and owner != ProcessIdentity.current():
                raise PostgresNotOwner(
                    f"The database was started by process {owner.pid if owner else 'unknown'}, not by this one.",
                    next_step="Stop that process, or run `explorer down`.",
                )
            cluster.stop(timeout_s)
            # On a full disk the record stays: it names a process that will have ended.
            with contextlib.suppress(OSError):
                update_record(self.home, lambda record: setattr(record, "owner", None))
            return True

    def needs_recovery(self) -> bool:
        """Whether a server that is stopped did not write everything, so that the next start replays its log."""
        cluster = self._cluster()
        return cluster is not None and cluster.has_data() and not cluster.processes() and not cluster.is_shut_down()

    def end_session(self, pid: int) -> None:
        """Kill one session's process that ignores the server's own signals. The server then ends all sessions and recovers
        within seconds: all running statements fail.

        Raises:
            PermissionError: the server runs under another account.
        """
        cluster = self._cluster()
        address = cluster.running() if cluster else None
        if cluster is not None and address is not None and pid != address.pid:
            cluster.kill(pid)

    def is_running(self) -> bool:
        """Whether the server of this HOME accepts connections."""
        return self.status().running

    def status(self) -> ServerStatus:
        """The current state; changes nothing."""
        record = read_record(self.home)
        cluster = self._cluster() if record else None
        address = cluster.running() if cluster else None
        owner = record.owner.pid if record and record.owner and record.owner.alive() else None
        return ServerStatus(
            address is not None, address, owner, cluster.data if cluster else None, cluster.log if cluster else None
        )

    def has_data(self) -> bool:
        """Whether there are data where `start` would begin, also such that `connection.json` does not name; changes nothing."""
        cluster = self._cluster() or self._cluster_at(self._new_root()[0])
        return cluster.has_data()

    def remove_data(self) -> None:
        """Stop the server and delete its data and its record. For tests and for an explicit purge."""
        self.stop(force=True)
        cluster = self._cluster()
        if cluster:
            shutil.rmtree(cluster.root)
        (self.home / CONNECTION_FILE).unlink(missing_ok=True)

    def _start_locked(self) -> ServerAddress:
        record = read_record(self.home)
        cluster = self._cluster() or self._new_cluster()
        address = cluster.running() or cluster.await_recovery()
        if address is None:
            cluster.clear_leftovers()
            password = record.password if record and record.password else secrets.token_urlsafe(24)
            self._initialize(cluster, record, password)
            address = self._start_on_some_port(cluster, record)

        def remember(record: ConnectionRecord) -> None:
            record.mode, record.host, record.port = "embedded", address.host, address.port
            if record.owner is None or not record.owner.alive():
                record.owner = ProcessIdentity.current()

        update_record(self.home, remember)
        return address

    def _initialize(self, cluster: Cluster, record: ConnectionRecord | None, password: str) -> None:
        if record and record.initialized and not cluster.has_data():
            raise PostgresNotStartable(
                f"The database folder {cluster.data} is gone.",
                next_step=f"Restore it, or remove {self.home / CONNECTION_FILE} to begin with an empty database.",
            )

        def remember_place(record: ConnectionRecord) -> None:
            record.cluster_dir, record.password = cluster.root, password

        update_record(self.home, remember_place)
        if not cluster.has_data():
            cluster.initdb(password)
        elif record is None or not record.password:
            cluster.reset_password(password)
        update_record(self.home, lambda record: setattr(record, "initialized", True))

    def _start_on_some_port(self, cluster: Cluster, record: ConnectionRecord | None) -> ServerAddress:
        wanted = self._port or (record.port if record else 0)
        for _attempt in range(5):
            port = wanted if wanted and port_free(HOST, wanted) else 0
            if self._port and not port:
                raise PostgresPortInUse(
                    f"Port {self._port} on {HOST} is used by another program.",
                    next_step="Set EXPLORER_POSTGRES_PORT to another port, or to 0 for a free one.",
                )
            if cluster.start(port or free_port(HOST)):
                address = cluster.running()
                if address is not None:
                    return address
            # Only a port that was taken since the check is worth a retry.
            if not cluster.port_was_taken():
                break
        raise PostgresNotStartable(
            "The embedded PostgreSQL did not start.",
            next_step=f"Read {cluster.log}, mend the cause it names and start again.",
            details={"log": cluster.log_tail()},
        )

    def _cluster(self) -> Cluster | None:
        record = read_record(self.home)
        root = record.cluster_dir if record else None
        return self._cluster_at(root) if root else None

    def _new_root(self) -> tuple[Path, Account | None]:
        """Where the data of a new server are to be, and the account that is to own them (None: the caller's)."""
        inside = self.home / "postgres"
        outside = Path("/var/lib") / f"explorer-{hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]}"
        account = account_for(inside / "data", self._os_user)
        reachable = account is None or can_enter(account, self.home)
        return inside if reachable else outside, account

    def _new_cluster(self) -> Cluster:
        root, account = self._new_root()
        if not root.is_dir():
            try:
                root.mkdir(mode=0o700)
            except OSError as error:
                raise PostgresNotStartable(
                    f"{root} cannot be made: {error.strerror}.",
                    next_step="Set EXPLORER_HOME to a folder that the account of the database server can reach.",
                ) from error
        status = root.lstat()
        if not stat.S_ISDIR(status.st_mode) or (account and status.st_uid not in (0, account.uid)):
            raise PostgresNotStartable(
                f"{root} belongs to another account.",
                next_step="Remove it if it is a leftover, or set another EXPLORER_HOME.",
            )
        return self._cluster_at(root)

    def _cluster_at(self, root: Path) -> Cluster:
        return Cluster(
            root,
            account_for(root / "data", self._os_user),
            bin_dir=self._bin_dir,
            memory_mb=self._memory_mb,
            fsync=self._fsync,
        )


def embedded_from(settings: Settings) -> EmbeddedPostgres:
    """The embedded server of the settings."""
    return EmbeddedPostgres(
        settings.home,
        port=settings.postgres_port,
        os_user=settings.postgres_os_user,
        memory_mb=settings.postgres_memory_mb,
        bin_dir=settings.postgres_bin,
        fsync=settings.postgres_fsync,
    )
