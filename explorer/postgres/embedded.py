"""How the private PostgreSQL under HOME is started, found again and stopped.

One server per HOME, on loopback TCP with SCRAM only (no Unix socket), whoever asks first. The process that starts it owns
it: only the owner, or an explicit `force`, stops it. Databases, roles and tenants in it belong to `bootstrap` and
`provisioning`.

Started by root, the server runs as an unprivileged account (configured, else `postgres`, else `nobody`; or whoever already
owns the data), whose group gets it through to its own folder. No account is made, and no folder around HOME is changed. Where
HOME cannot be reached by that account, for instance under a /root of mode 700, the data live in /var/lib/explorer-<hash of
HOME>; `connection.json` records which.
"""

import contextlib
import hashlib
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from explorer.core.home import make_home
from explorer.core.ports import free_port, port_free
from explorer.core.processes import LINUX, ProcessIdentity
from explorer.postgres.binaries import Binaries, copy_binaries, find_binaries
from explorer.postgres.errors import PostgresNotOwner, PostgresNotStartable, PostgresPortInUse
from explorer.postgres.state import ConnectionRecord, file_lock, read_record, update_record

SUPERUSER = "postgres"
HOST = "127.0.0.1"
START_TIMEOUT_S = 120
LOG_ROTATE_BYTES = 10 * 1024 * 1024
LOG_TAIL_LINES = 15
STOP_PATIENCE_S = 60.0
HANGING_S = 1.5

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


@dataclass(frozen=True)
class ServerAddress:
    """Where the server listens and the pid of its main process."""

    host: str
    port: int
    pid: int


@dataclass(frozen=True)
class ServerStatus:
    """What `status()` sees; `owner_pid` is None when the process that started the server is gone."""

    running: bool
    address: ServerAddress | None
    owner_pid: int | None
    data_dir: Path | None
    log_file: Path | None


def read_connection(home: Path) -> ConnectionRecord | None:
    """Address and passwords recorded under `home`, None before the first start. See `state.read_record` for errors."""
    return read_record(home)


class EmbeddedPostgres:
    """The server of one HOME. Objects are cheap and hold no state: any process may make one."""

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
        """`port` 0 picks a free one and keeps it; `memory_mb` limits each server process (Linux; 0: not), beside what all share.

        `fsync=False` trades the data's safety for speed and is meant for tests.
        """
        self.home = Path(home).expanduser().resolve()
        self._port = port
        self._os_user = os_user
        self._memory_mb = memory_mb
        self._bin_dir = bin_dir
        self._fsync = fsync

    def start(self) -> ServerAddress:
        """Start the server, or find the one that runs already. Concurrent callers get the same server.

        Raises:
            PostgresNotStartable: with the last lines of its log; PostgresPortInUse and PostgresBinariesMissing are kinds of it.
            DatabaseNotReady: `connection.json` is damaged or somebody else's.
        """
        make_home(self.home)
        try:
            with file_lock(self.home, "postgres"):
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

    def stop(self, *, force: bool = False, patience_s: float = STOP_PATIENCE_S) -> bool:
        """Stop the server, whatever it does; True when one was running. Sessions are ended, committed data are on disk.

        Politely for as long as it gets on: it writes what it holds in memory. Sessions that do not end (PostgreSQL cannot
        interrupt some functions) are given `HANGING_S`, all together `patience_s`; then it is shut down immediately, and what
        is left is killed. Data are safe either way: `needs_recovery` says whether the next start replays the log.

        Raises:
            PostgresNotOwner: another process started it and `force` was not given.
        """
        if not self.home.is_dir() or read_record(self.home) is None:
            return False
        with contextlib.ExitStack() as stack:
            # Whoever starts it holds the lock until it is ready, which may be long: then it is ended in the middle of that.
            with contextlib.suppress(PostgresNotStartable):
                stack.enter_context(file_lock(self.home, "postgres", HANGING_S))
            cluster = self._cluster()
            if cluster is None or not cluster.processes():
                return False
            owner = (read_record(self.home) or ConnectionRecord()).owner
            if not force and owner != ProcessIdentity.current():
                raise PostgresNotOwner(
                    f"The database was started by process {owner.pid if owner else 'unknown'}, not by this one.",
                    next_step="Stop that process, or run `explorer down`.",
                )
            cluster.stop(patience_s)
            # On a full disk it stays: it names a process that will be gone.
            with contextlib.suppress(OSError):
                update_record(self.home, lambda record: setattr(record, "owner", None))
            return True

    def needs_recovery(self) -> bool:
        """Whether a server that is stopped now did not come to write everything, so that the next start replays its log."""
        cluster = self._cluster()
        return cluster is not None and cluster.has_data() and not cluster.processes() and not cluster.is_shut_down()

    def end_session(self, pid: int) -> None:
        """Kill one session's process that heeds no signal of the server's own. The server then ends all sessions and recovers, a
        matter of seconds: whatever runs in it fails.

        Raises:
            PermissionError: the server runs as another account.
        """
        cluster = self._cluster()
        address = cluster.running() if cluster else None
        if cluster is not None and address is not None and pid != address.pid:
            cluster.kill(pid)

    def is_running(self) -> bool:
        """Whether the server of this HOME accepts connections."""
        return self.status().running

    def status(self) -> ServerStatus:
        """What is there now; starts and changes nothing."""
        record = read_record(self.home)
        cluster = self._cluster() if record else None
        address = cluster.running() if cluster else None
        owner = record.owner.pid if record and record.owner and record.owner.alive() else None
        return ServerStatus(
            address is not None, address, owner, cluster.data if cluster else None, cluster.log if cluster else None
        )

    def remove_data(self) -> None:
        """Stop the server and delete its data and its record. For tests and for an explicit purge."""
        self.stop(force=True)
        cluster = self._cluster()
        if cluster:
            shutil.rmtree(cluster.root)
        (self.home / "connection.json").unlink(missing_ok=True)

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

    def _initialize(self, cluster: "_Cluster", record: ConnectionRecord | None, password: str) -> None:
        if record and record.initialized and not cluster.has_data():
            raise PostgresNotStartable(
                f"The database folder {cluster.data} is gone.",
                next_step=f"Restore it, or remove {self.home / 'connection.json'} to begin with an empty database.",
            )

        def remember_place(record: ConnectionRecord) -> None:
            record.cluster_dir, record.password = cluster.root, password

        update_record(self.home, remember_place)
        if not cluster.has_data():
            cluster.initdb(password)
        elif record is None or not record.password:
            cluster.reset_password(password)
        update_record(self.home, lambda record: setattr(record, "initialized", True))

    def _start_on_some_port(self, cluster: "_Cluster", record: ConnectionRecord | None) -> ServerAddress:
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
            # Only a port taken since it was looked at is worth another try.
            if not cluster.port_was_taken():
                break
        raise PostgresNotStartable(
            "The embedded PostgreSQL did not start.",
            next_step=f"Read {cluster.log}, mend the cause it names and start again.",
            details={"log": cluster.log_tail()},
        )

    def _cluster(self) -> "_Cluster | None":
        record = read_record(self.home)
        root = record.cluster_dir if record else None
        return self._cluster_at(root) if root else None

    def _new_cluster(self) -> "_Cluster":
        inside = self.home / "postgres"
        outside = Path("/var/lib") / f"explorer-{hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]}"
        account = _account(inside / "data", self._os_user)
        reachable = account is None or _can_enter(account, self.home)
        root = inside if reachable else outside
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

    def _cluster_at(self, root: Path) -> "_Cluster":
        return _Cluster(
            root,
            _account(root / "data", self._os_user),
            bin_dir=self._bin_dir,
            memory_mb=self._memory_mb,
            fsync=self._fsync,
        )


@dataclass(frozen=True)
class _Account:
    """The unprivileged account that a server started by root runs as."""

    uid: int
    gid: int

    def drop(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


_END_STEPS = ((signal.SIGTERM, 5.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
# `postgres: user database 127.0.0.1(41234) SELECT`, or a parallel worker of such a session.
_SESSION_TITLE = re.compile(rb"postgres: (?:.*\(\d+\) |parallel worker)")


class _Cluster:
    """Files and processes of one data folder: `root/data` belongs to the server's account, `root/bin` to whoever starts it."""

    def __init__(
        self, root: Path, account: _Account | None, *, bin_dir: Path | None, memory_mb: int, fsync: bool
    ) -> None:
        self.root = root.resolve()
        self.data = self.root / "data"
        self.log = self.root / "log" / "server.log"
        self._account = account
        self._bin_dir = bin_dir
        self._memory_mb = memory_mb
        self._fsync = fsync

    @cached_property
    def _binaries(self) -> Binaries:
        major = int((self.data / "PG_VERSION").read_text()) if self.has_data() else None
        found = find_binaries(self._bin_dir, major)
        if self._account is None or _can_run(self._account, found.postgres):
            return found
        copied = copy_binaries(found, self.root / "bin")
        self.keep_private()
        return copied

    def has_data(self) -> bool:
        return (self.data / "PG_VERSION").is_file()

    def running(self) -> ServerAddress | None:
        """The live server on this data folder, from its own pid file (source: PostgreSQL's pidfile.h)."""
        lines = self._pid_file()
        if len(lines) < 8 or lines[7].strip() != "ready" or int(lines[0]) not in self.processes():
            return None
        return ServerAddress(HOST, int(lines[3]), int(lines[0]))

    def await_recovery(self) -> ServerAddress | None:
        """The server once it is ready, if its main process lives: replaying the log after a crash may outlast one start."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            address = self.running()
            lines = self._pid_file()
            if address or not lines or int(lines[0]) not in self.processes():
                return address
            time.sleep(0.1)
        raise PostgresNotStartable(
            f"The database server is still recovering after {START_TIMEOUT_S} s.",
            next_step=f"Wait and start again; {self.log} tells how far it is.",
            details={"log": self.log_tail()},
        )

    def keep_private(self) -> None:
        """Only the server's account gets through to the data, and to a copy of the programs; it may change neither folder."""
        if self._account is None:
            self.root.chmod(0o700)
            return
        programs = self.root / "bin"
        for path in (self.root, *((programs, *programs.rglob("*")) if programs.is_dir() else ())):
            if not path.is_symlink():
                mode = 0o710 if path == self.root else 0o750 if path.is_dir() or path.stat().st_mode & 0o100 else 0o640
                os.chown(path, -1, self._account.gid)
                path.chmod(mode)

    def initdb(self, password: str) -> None:
        self.keep_private()
        partial = self.root / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        password_file = self._own_folder(self.root / "log") / "password"
        self._own_folder(partial)
        # The server's account writes the file itself, so that root never opens a path inside a folder of that account.
        self._run(["/bin/sh", "-c", 'cat > "$0"', str(password_file)], input=f"{password}\n")
        try:
            answer = self._program("initdb", "-D", str(partial), "-U", SUPERUSER, f"--pwfile={password_file}",
                                   "-A", "scram-sha-256", "-E", "UTF8", "--data-checksums", *self._locale(),
                                   *([] if self._fsync else ["--no-sync"]))  # fmt: skip
        finally:
            password_file.unlink(missing_ok=True)
        if answer.returncode:
            shutil.rmtree(partial, ignore_errors=True)
            raise PostgresNotStartable(
                "The database folder could not be made.",
                next_step=f"Mend the cause that initdb names (often: no space or no rights in {self.root}) and start again.",
                details={"log": answer.stdout.splitlines()[-LOG_TAIL_LINES:]},
            )
        partial.rename(self.data)

    def reset_password(self, password: str) -> None:
        """Give the superuser a new password while the server is down: the record of the old one is lost."""
        statement = f"ALTER ROLE {SUPERUSER} PASSWORD '{password}'\n"
        answer = self._program("postgres", "--single", "-D", str(self.data), "postgres", input=statement)
        if answer.returncode:
            raise PostgresNotStartable(
                f"connection.json is lost and a new password could not be set in {self.data}.",
                next_step="Restore connection.json from a backup.",
                details={"log": answer.stdout.splitlines()[-LOG_TAIL_LINES:]},
            )

    def start(self, port: int) -> bool:
        self._own_folder(self.log.parent)
        self.keep_private()
        if self.log.exists() and self.log.lstat().st_size > LOG_ROTATE_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        settings = SERVER_SETTINGS | {"port": str(port), "shared_buffers": f"{shared_buffers_mb()}MB"}
        settings |= SERVER_SETTINGS_SINCE_16 if self._binaries.major >= 16 else {}
        settings |= {} if self._fsync else UNSAFE_FAST_SETTINGS
        options = " ".join(f"-c {key}={shlex.quote(value)}" for key, value in settings.items())
        answer = self._program("pg_ctl", "-D", str(self.data), "-l", str(self.log), "-w", "-t", str(START_TIMEOUT_S),
                               "-o", options, "start", limited=True)  # fmt: skip
        return answer.returncode == 0

    def kill(self, pid: int) -> None:
        if pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self, patience_s: float) -> None:
        """See `EmbeddedPostgres.stop`."""
        began = time.monotonic()
        self._program("pg_ctl", "-D", str(self.data), "-m", "fast", "-W", "stop")
        while self.processes():
            waited_s = time.monotonic() - began
            if waited_s > patience_s or (waited_s > HANGING_S and self._sessions()):
                break
            time.sleep(0.02)
        else:
            return
        self._program("pg_ctl", "-D", str(self.data), "-m", "immediate", "-W", "stop")
        self._end(self.processes(), ((None, 1.0), (signal.SIGKILL, 5.0)))

    def is_shut_down(self) -> bool:
        """Whether the data folder says that its server wrote everything (source: pg_controldata); True where nothing can tell."""
        if not (self._binaries.bin_dir / "pg_controldata").is_file():
            return True
        answer = self._program("pg_controldata", str(self.data))
        return (
            bool(answer.returncode)
            or re.search(r"^Database cluster state: +shut down$", answer.stdout, re.M) is not None
        )

    def clear_leftovers(self) -> None:
        """End sessions whose main process was killed and forget its pid file, so that a new server may recover the data."""
        self._end(self.processes())
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (self.data / "postmaster.pid").unlink()

    def port_was_taken(self) -> bool:
        return any(
            "Address already in use" in line or "could not create any TCP/IP" in line for line in self.log_tail()
        )

    def log_tail(self) -> list[str]:
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 8192))
                return file.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        except OSError:
            return []

    def _pid_file(self) -> list[str]:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        return lines if lines and lines[0].isdigit() else []

    def _end(self, pids: set[int], steps: Sequence[tuple[signal.Signals | None, float]] = _END_STEPS) -> None:
        """Give each signal (None: none) and wait so many seconds for the processes to be gone."""
        for sign, patience_s in steps:
            for pid in pids & self.processes():
                if sign is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, sign)
            deadline = time.monotonic() + patience_s
            while pids & self.processes():
                if time.monotonic() > deadline:
                    break
                time.sleep(0.02)
            else:
                return

    def _sessions(self) -> list[int]:
        """Pids of processes that serve a client: their titles name its address (source: PostgreSQL's ps display)."""
        found = []
        for pid in self.processes():
            with contextlib.suppress(OSError):
                if _SESSION_TITLE.match(Path(f"/proc/{pid}/cmdline").read_bytes()):
                    found.append(pid)
        return found

    def processes(self) -> set[int]:
        """Pids of the server's processes: they, and nothing else, work in the data folder."""
        if LINUX:
            return {
                int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._works_here(entry)
            }
        if self.has_data() and self._program("pg_ctl", "-D", str(self.data), "status").returncode == 0:
            return {int((self.data / "postmaster.pid").read_text().split()[0])}
        return set()

    def _works_here(self, process: Path) -> bool:
        try:
            return (process / "cwd").readlink() == self.data and (process / "exe").readlink().name.startswith(
                "postgres"
            )
        except OSError:
            return False

    def _locale(self) -> list[str]:
        if self._binaries.major >= 17:
            return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        return ["--locale=C.UTF-8"]

    def _own_folder(self, path: Path) -> Path:
        path.mkdir(mode=0o700, exist_ok=True)
        if self._account:
            os.chown(path, self._account.uid, self._account.gid, follow_symlinks=False)
        return path

    def _program(
        self, name: str, *args: str, input: str | None = None, limited: bool = False
    ) -> subprocess.CompletedProcess[str]:
        command = [str(self._binaries.bin_dir / name), *args]
        if limited and self._memory_mb and LINUX:
            # Inherited by every backend: a query that eats memory ends with SQLSTATE 53200 instead of the machine's OOM killer.
            limit_kb = (self._memory_mb + shared_buffers_mb()) * 1024
            command = ["/bin/sh", "-c", f'ulimit -v {limit_kb} 2>/dev/null; exec "$0" "$@"', *command]
        return self._run(command, input=input)

    def _run(self, command: list[str], input: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": str(self.root)},
            input=input if input is not None else "",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=START_TIMEOUT_S + 60,
            check=False,
            umask=0o077,
            **(self._account.drop() if self._account else {}),
        )


def _account(data: Path, configured: str | None) -> _Account | None:
    """Whom the server runs as; None: whoever calls. Existing data decide, because the server insists on owning them."""
    if os.geteuid() != 0:
        return None
    if data.is_dir() and data.stat().st_uid != 0:
        owner = data.stat()
        return _Account(owner.st_uid, owner.st_gid)
    for name in filter(None, (configured, SUPERUSER, "nobody")):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return _Account(entry.pw_uid, entry.pw_gid)
        if name == configured:
            break
    raise PostgresNotStartable(
        f"PostgreSQL refuses to run as root, and the account {configured or 'postgres or nobody'} cannot be used instead.",
        next_step="Run as an ordinary user, or name an unprivileged account in EXPLORER_POSTGRES_OS_USER.",
    )


def _can_enter(account: _Account, folder: Path) -> bool:
    return _try_as(account, ["/bin/sh", "-c", 'cd "$0"', str(folder)])


def _can_run(account: _Account, program: Path) -> bool:
    return _try_as(account, [str(program), "--version"])


def _try_as(account: _Account, command: list[str]) -> bool:
    try:
        answer = subprocess.run(
            command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60, **account.drop()
        )
    except PermissionError:
        return False
    return answer.returncode == 0
