"""What the database or the file system says in the middle of a step is the failure that everybody reads."""

import dagster as dg
import psycopg
import pytest

from explorer_dagster.failures import storage_failed, told


def test_what_the_database_and_the_file_system_say_reaches_the_failure() -> None:
    full = psycopg.errors.DiskFull(
        'could not extend file "base/1/2": No space left on device\nHINT:  Check free disk space.'
    )
    error = storage_failed(full)
    assert error.message == 'The database refused: could not extend file "base/1/2": No space left on device.'
    assert "Make room" in error.next_step
    assert error.details == {"sqlstate": "53100"}
    error = storage_failed(OSError(28, "No space left on device", "/home/dbt/x.sql"))
    assert error.message == "A file could not be read or written: No space left on device (/home/dbt/x.sql)."
    assert "Make room" in error.next_step
    with pytest.raises(dg.Failure, match="permission denied for table raw_cases"), told():
        raise psycopg.errors.InsufficientPrivilege("permission denied for table raw_cases")
