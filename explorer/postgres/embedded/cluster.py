"""One data folder: its files, starting and stopping its server, and running programs on it.

`root/data` belongs to the server's account, `root/bin` to the account that starts it.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from explorer.core.processes import LINUX
from explorer.postgres.embedded import processes
from explorer.postgres.embedded.accounts import Account, can_run
from explorer.postgres.embedded.binaries import Binaries, copy_binaries, find_binaries
from explorer.postgres.embedded.server_settings import HOST, settings_for, shared_buffers_mb
from explorer.postgres.errors import PostgresNotStartable
from explorer.postgres.state import SUPERUSER, socket_folder

START_TIMEOUT_S = 120
LOG_ROTATE_BYTES = 10 * 1024 * 1024
LOG_TAIL_LINES = 15
HANGING_S = 1.5


@dataclass(frozen=True)
class ServerAddress:
    """The server's port, and the pid of its main process."""

    host: str
    port: int
    pid: int


class Cluster:
    """Files and processes of one data folder."""

    def __init__(
        self, root: Path, account: Account | None, *, bin_dir: Path | None, memory_mb: int, fsync: bool
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
        if self._account is None or can_run(self._account, found.postgres):
            return found
        copied = copy_binaries(found, self.root / "bin")
        self.keep_private()
        return copied

    def has_data(self) -> bool:
        return (self.data / "PG_VERSION").is_file()

    def running(self) -> ServerAddress | None:
        """The running server of this data folder, from its pid file (source: PostgreSQL's pidfile.h)."""
        lines = self._pid_file()
        if len(lines) < 8 or lines[7].strip() != "ready" or int(lines[0]) not in self.processes():
            return None
        return ServerAddress(HOST, int(lines[3]), int(lines[0]))

    def await_recovery(self) -> ServerAddress | None:
        """The server once it is ready, if its main process lives: replaying the log after a crash may take longer than one
        start."""
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
        """Let only the server's account reach the data and a copy of the programs; it may change neither parent folder."""
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
        # The server's account writes the file itself: root must not open a path inside that account's folder.
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

    def kill(self, pid: int) -> None:
        """Kill one process of the server."""
        if pid in self.processes():
            processes.kill(pid)

    def reset_password(self, password: str) -> None:
        """Give the superuser a new password while the server is down: the record of the old one was lost."""
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
        sockets = socket_folder(self.root, port)
        if sockets is not None:
            self._own_folder(sockets)
        settings = settings_for(self._binaries.major, port, sockets, fsync=self._fsync)
        options = " ".join(f"-c {key}={shlex.quote(value)}" for key, value in settings.items())
        answer = self._program("pg_ctl", "-D", str(self.data), "-l", str(self.log), "-w", "-t", str(START_TIMEOUT_S),
                               "-o", options, "start", limited=True)  # fmt: skip
        return answer.returncode == 0

    def stop(self, timeout_s: float) -> None:
        """See `EmbeddedPostgres.stop`."""
        began = time.monotonic()
        self._program("pg_ctl", "-D", str(self.data), "-m", "fast", "-W", "stop")
        while self.processes():
            waited_s = time.monotonic() - began
            if waited_s > timeout_s or (waited_s > HANGING_S and processes.sessions_among(self.processes())):
                break
            time.sleep(0.02)
        else:
            return
        self._program("pg_ctl", "-D", str(self.data), "-m", "immediate", "-W", "stop")
        processes.end(self.processes(), self.processes, ((None, 1.0), (signal.SIGKILL, 5.0)))

    def is_shut_down(self) -> bool:
        """Whether the server wrote everything before it ended (source: pg_controldata); True where that cannot be found out."""
        if not (self._binaries.bin_dir / "pg_controldata").is_file():
            return True
        answer = self._program("pg_controldata", str(self.data))
        return (
            bool(answer.returncode)
            or re.search(r"^Database cluster state: +shut down$", answer.stdout, re.M) is not None
        )

    def clear_leftovers(self) -> None:
        """End sessions whose main process was killed, and delete its pid file and sockets: a new server can recover the data,
        whatever has that process's number now."""
        processes.end(self.processes(), self.processes)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (self.data / "postmaster.pid").unlink()
        shutil.rmtree(self.root / "socket", ignore_errors=True)

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

    def processes(self) -> set[int]:
        """Pids of the server's processes: those that work in the data folder."""
        return processes.in_folder(self.data, self._main_process)

    def _main_process(self) -> int | None:
        if self.has_data() and self._program("pg_ctl", "-D", str(self.data), "status").returncode == 0:
            return int((self.data / "postmaster.pid").read_text().split()[0])
        return None

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
            # Inherited by every backend: a query that needs too much memory ends with SQLSTATE 53200, not by the OOM killer.
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
