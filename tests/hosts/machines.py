"""Machines on one machine: network namespaces joined by a bridge, and in them namespaces of processes with a host name and a HOME
of their own. Needs root and Debian's iproute2.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_APART = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts")


def until(is_true: Callable[[], object], within_s: float, what: str) -> float:
    """Wait; the seconds that it took. Fails after `within_s`."""
    begin = time.monotonic()
    while not is_true():
        assert time.monotonic() - begin < within_s, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.2)
    return time.monotonic() - begin


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


@dataclass
class Machine:
    """A machine at `address`. `home`: where its programs have HOME and DAGSTER_HOME."""

    name: str
    namespace: str
    address: str
    home: Path
    programs: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def command(self, command: Sequence[str]) -> list[str]:
        inside = ["sh", "-c", 'hostname "$0"; exec "$@"', self.name, *command]
        return ["ip", "netns", "exec", self.namespace, *_APART, *inside]

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Start a program, each in its own namespace of processes."""
        with (self.home / f"{name}.log").open("ab") as log:
            self.programs[name] = subprocess.Popen(
                self.command(command), env=dict(environment), cwd=self.home, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return self.programs[name]

    def kill(self, name: str) -> None:
        """As if the machine lost its power: all processes of the program are gone at once, and say nothing."""
        process = self.programs.pop(name)
        # The first process of its namespace: with it the kernel ends all others.
        process.send_signal(signal.SIGKILL)
        process.wait(30)

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text(errors="replace")

    def cut_from(self, address: str) -> None:
        """What is sent to that address is lost."""
        ip("-n", self.namespace, "route", "add", "blackhole", f"{address}/32")

    def join_again(self, address: str) -> None:
        ip("-n", self.namespace, "route", "del", "blackhole", f"{address}/32")


@contextlib.contextmanager
def machines(folder: Path, *names: str) -> Iterator[tuple[dict[str, Machine], list[str]]]:
    """Machines by name, and three addresses of this one by which they reach it. All of it is gone afterwards."""
    mark = os.getpid()
    net = f"10.{100 + mark % 100}.{mark // 100 % 250}"
    bridge = f"xb{mark}"
    made: dict[str, Machine] = {}
    with contextlib.ExitStack() as stack:
        ip("link", "add", bridge, "type", "bridge")
        stack.callback(ip, "link", "del", bridge)
        ip("link", "set", bridge, "up")
        own = [f"{net}.{last}" for last in (1, 2, 3)]
        for address in own:
            ip("address", "add", f"{address}/24", "dev", bridge)
        for place, name in enumerate(names):
            namespace, link = f"x{mark}-{name}", f"x{mark}{place}"
            ip("netns", "add", namespace)
            stack.callback(ip, "netns", "del", namespace)
            ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            ip("link", "set", link, "master", bridge, "up")
            ip("-n", namespace, "address", "add", f"{net}.{10 + place}/24", "dev", "eth0")
            ip("-n", namespace, "link", "set", "eth0", "up")
            ip("-n", namespace, "link", "set", "lo", "up")
            home = folder / name
            (home / "dagster").mkdir(parents=True)
            made[name] = Machine(name, namespace, f"{net}.{10 + place}", home)
        try:
            yield made, own
        finally:
            for machine in made.values():
                for name in list(machine.programs):
                    machine.kill(name)
