"""An error of the database or the file system inside a step becomes the failure that users read."""

import psycopg

from explorer.postgres.storage_errors import storage_failed


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
