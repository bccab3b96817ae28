"""How does dbt run beside us? In a process of its own: dbt wants the main thread, Ctrl-C and an environment to itself.

The process is forked by `stand_by`, which a worker calls first thing, before it has threads; otherwise it is started when it is
needed, as a program that reads nothing of ours. In it dbt's own `dbtRunner` runs one command after the other. Any exception here
interrupts dbt as Ctrl-C does; if this process is killed, dbt's notices, and interrupts itself.
"""

import atexit
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import Any, Protocol

from explorer.core.connect_guard import ConnectGuard
from explorer.marts.errors import TransformFailed
from explorer.marts.results import NodeResult, Outcome, from_event, from_run_result, is_of_interest

Environment = Mapping[str, str]
OnResult = Callable[[NodeResult], None]

PARSE = "parse"
# dbt cancels its queries when it is interrupted; one that goes on is killed, and the database ends its queries.
_END_GRACE_S = 10.0
_POLL_S = 0.2


class _Process(Protocol):
    """What we need of a process; `multiprocessing` calls these so."""

    @property
    def pid(self) -> int | None: ...
    def is_alive(self) -> bool: ...
    def kill(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...


class DbtProcess:
    """A process that runs dbt's commands. `start` gets our end of the pipe and its own."""

    def __init__(self, start: Callable[[Connection, Connection], _Process]) -> None:
        self._pipe, theirs = Pipe()
        self._process = start(self._pipe, theirs)
        theirs.close()
        self._asked = 0

    def ask(self, arguments: Sequence[str], environment: Environment) -> None:
        """Let dbt run a command meanwhile, whose result nobody waits for."""
        self._pipe.send((list(arguments), dict(environment)))
        self._asked += 1

    def invoke(self, arguments: Sequence[str], environment: Environment, on_result: OnResult) -> Outcome:
        """Run one command of dbt; `on_result` is called in this thread when a node ends. Any exception in this thread ends dbt
        and its queries, and is raised.

        Raises:
            TransformFailed: dbt could not do it at all, or its process ended.
        """
        try:
            self.ask(arguments, environment)
            while self._asked > 1:
                self._outcome(lambda _: None)
            outcome = self._outcome(on_result)
        except BaseException:
            self.close()
            raise
        if outcome.error is not None:
            self.close()
            raise TransformFailed(
                f"dbt stopped: {outcome.error}", next_step="Correct what it names; data from before is untouched."
            )
        return outcome

    def _outcome(self, on_result: OnResult) -> Outcome:
        while True:
            # A read without a time limit would block interrupts.
            while not self._pipe.poll(_POLL_S):
                pass
            try:
                said = self._pipe.recv()
            except (EOFError, OSError):
                raise TransformFailed(
                    "dbt's process ended before dbt did.", next_step="Look for lack of memory, and run again."
                ) from None
            if isinstance(said, Outcome):
                self._asked -= 1
                return said
            on_result(said)

    def close(self) -> None:
        """Interrupt dbt, wait until its queries are cancelled, and kill what is left."""
        deadline = time.monotonic() + _END_GRACE_S
        is_interrupted = False
        while self._process.is_alive():
            # A second interrupt must not leave dbt's queries running.
            with contextlib.suppress(BaseException):
                if time.monotonic() > deadline:
                    self._process.kill()
                elif not is_interrupted:
                    os.kill(self._process.pid or 0, signal.SIGINT)
                    is_interrupted = True
                self._process.join(_POLL_S)
        self._pipe.close()


def _fork(ours: Connection, theirs: Connection) -> _Process:
    process = multiprocessing.get_context("fork").Process(target=serve, args=(theirs, ours), name="dbt", daemon=True)
    process.start()
    return process


class _Program:
    """A program of its own: `multiprocessing` would run the caller's main module again in the new process."""

    def __init__(self, _ours: Connection, theirs: Connection) -> None:
        handle = theirs.fileno()
        self._popen = subprocess.Popen([sys.executable, "-m", "explorer.marts", str(handle)], pass_fds=[handle])
        self.pid = self._popen.pid

    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def kill(self) -> None:
        self._popen.kill()

    def join(self, timeout: float | None = None) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout)


_kept: list[DbtProcess] = []
# A forked process has processes of its own.
os.register_at_fork(after_in_child=_kept.clear)


@atexit.register
def close_all() -> None:
    """End the processes that stand by."""
    while _kept:
        _kept.pop().close()


def stand_by() -> None:
    """Fork dbt's process now. To be called while this process has no threads."""
    _kept.append(DbtProcess(_fork))


def ask(arguments: Sequence[str], environment: Environment) -> None:
    """Let the process that stands by run a command meanwhile, if there is one."""
    for process in _kept:
        process.ask(arguments, environment)


def invoke(arguments: Sequence[str], environment: Environment, on_result: OnResult, *, keep: bool = True) -> Outcome:
    """Run a command in dbt's process, as `DbtProcess.invoke`. `keep`: a process that is started for it stays for the next one."""
    keep = keep or bool(_kept)
    process = _kept.pop() if _kept else DbtProcess(_Program)
    outcome = process.invoke(arguments, environment, on_result)
    if keep:
        _kept.append(process)
    else:
        process.close()
    return outcome


def serve(commands: Connection, ours: Connection | None) -> None:
    """dbt's process, until nobody is left to give commands. `ours`: the other end of the pipe, where it was inherited."""
    if ours is not None:
        # Forked by a run's worker: dbt needs the database alone, which psycopg2 finds and reaches by libpq.
        ours.close()
        ConnectGuard().__enter__()
    # A Ctrl-C in the terminal is for our parent, which decides.
    with contextlib.suppress(PermissionError):
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    waiting: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(commands, waiting), name="commands", daemon=True).start()
    read = _Read()
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            arguments, environment = waiting.get()
            os.environ.clear()
            os.environ.update(environment)
            commands.send(_invoke(arguments, commands.send, read))


def _listen(commands: Connection, waiting: "SimpleQueue[Any]") -> None:
    try:
        while True:
            waiting.put(commands.recv())
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(_END_GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)


class _Read:
    """What `dbt parse` has just read, for the command that follows in the same folder: `dbtRunner` takes it instead of reading
    the project again."""

    def __init__(self) -> None:
        self._folder = ""
        self._manifest: Any = None

    def keep(self, arguments: Sequence[str], manifest: Any) -> None:
        self._folder, self._manifest = (_folder(), manifest) if PARSE in arguments else ("", None)

    def for_command(self, arguments: Sequence[str]) -> Any:
        """The manifest for a command; None where it must read the project."""
        return self._manifest if self._folder == _folder() and PARSE not in arguments else None


def _folder() -> str:
    return os.environ.get("DBT_TARGET_PATH", "")


def _invoke(arguments: list[str], on_result: OnResult, read: _Read) -> Outcome:
    from dbt.cli.main import dbtRunner

    def on_event(event: Any) -> None:
        if event.info.name == "NodeFinished":
            on_result(from_event(event.data))

    ran = dbtRunner(read.for_command(arguments), callbacks=[on_event]).invoke(arguments)
    read.keep(arguments, ran.result)
    if isinstance(ran.exception, KeyboardInterrupt):
        raise ran.exception
    if ran.exception is not None:
        return Outcome(False, " ".join(str(ran.exception).split())[:600] or type(ran.exception).__name__)
    results = getattr(ran.result, "results", ())
    return Outcome(ran.success, None, tuple(from_run_result(each) for each in results if is_of_interest(each)))
