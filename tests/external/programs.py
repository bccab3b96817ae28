"""Programs that nobody here wrote: how they are started, and how what they say is heard."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
BIN = HERE / "node_modules" / ".bin"


def environment(**more: str) -> dict[str, str]:
    """Where the Node and the programs of `node_modules` come first."""
    assert (BIN / "node").exists(), f"Run `npm install` in {HERE}."
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **more}


@dataclass(frozen=True)
class Talk:
    """A program under way, which is heard while it runs."""

    process: "subprocess.Popen[str]"

    def lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line.rstrip()

    def events(self) -> Iterator[dict[str, Any]]:
        """What it tells, for programs whose lines are JSON."""
        for line in self.lines():
            yield json.loads(line)

    def tell(self, line: str) -> None:
        """Write a line to its input."""
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)

    def event(self) -> dict[str, Any]:
        """The next thing that it tells."""
        told = next(self.events(), None)
        assert told is not None, f"{self.process.args!r} has ended with {self.process.wait(10)}"
        return told


@contextmanager
def started(*command: str, env: Mapping[str, str], cwd: Path = HERE, errors: IO[str] | None = None) -> Iterator[Talk]:
    """A program that is ended afterwards, if it has not ended by itself.

    `errors`: where it writes what it complains of; else that is in the output of the tests.
    """
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=env, cwd=cwd, text=True, stdin=pipe, stdout=pipe, stderr=errors)
    try:
        yield Talk(process)
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=20)
