"""A process is identified by pid and start time, and its text form works in other processes."""

import os
import subprocess
import sys

import pytest
from pydantic import BaseModel

from explorer.core.processes import ProcessIdentity, WorkerIdentity


def test_an_identity_lives_as_long_as_its_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        identity = ProcessIdentity.of(child.pid)
        assert identity.alive()
        assert ProcessIdentity.parse(str(identity)) == identity
        assert not ProcessIdentity(child.pid, "1").alive()
        child.kill()
        # A process that has ended and was not waited for is a zombie.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not identity.alive()
    assert not identity.alive()
    gone = ProcessIdentity.of(child.pid)
    assert (str(gone), gone.alive()) == (f"{child.pid}:gone", False)


def test_of_a_worker_of_another_machine_nobody_can_say_whether_it_lives() -> None:
    here = WorkerIdentity.of(os.getpid())
    assert here.alive() is True
    assert WorkerIdentity.parse(str(here)) == here
    # As it was written before there were several machines.
    assert WorkerIdentity.parse(str(here.process)) == here
    assert WorkerIdentity.parse(f"{here.host}/{os.getpid()}:1").alive() is False
    assert WorkerIdentity.parse(f"elsewhere/{here.process}").alive() is None


def test_the_calling_process_is_alive() -> None:
    assert ProcessIdentity.current().alive()
    assert ProcessIdentity.current().pid == os.getpid()


@pytest.mark.parametrize("text", ["", "no number:5", ":7"])
def test_other_texts_are_no_identity(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        ProcessIdentity.parse(text)


def test_records_keep_it_as_pid_and_started() -> None:
    class Record(BaseModel):
        owner: ProcessIdentity | None = None

    record = Record(owner=ProcessIdentity(7, "123"))
    assert record.model_dump_json() == '{"owner":{"pid":7,"started":"123"}}'
    assert Record.model_validate_json(record.model_dump_json()) == record
