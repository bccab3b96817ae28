"""Typed errors in a run: with code and next step, and retried only when that can help."""

import dagster as dg
import psycopg
import pytest

from explorer.http.errors import ApiError, CredentialsInvalid, Throttled
from explorer_dagster.failures import failure, failures_explained


@pytest.mark.parametrize(("error_type", "retried"), [(CredentialsInvalid, False), (Throttled, True)])
def test_a_typed_error_keeps_its_code_and_facts(error_type: type[ApiError], retried: bool) -> None:
    error = error_type(
        "No.",
        provider="commcare",
        next_step="Check the key.",
        details={"status": 401, "resource": "cases", "page": None},
    )
    shown = failure(error)
    assert shown.description == "No. Check the key."
    assert shown.metadata["code"].value == error.code
    assert shown.metadata["next_step"].value == "Check the key."
    assert shown.metadata["details"].value == {"status": 401, "resource": "cases", "page": None}
    assert shown.allow_retries is retried


def test_what_the_database_says_in_a_step_is_the_failure() -> None:
    with pytest.raises(dg.Failure, match="permission denied for table raw_cases") as caught, failures_explained():
        raise psycopg.errors.InsufficientPrivilege("permission denied for table raw_cases")
    assert caught.value.metadata["code"].value == "storage_failed"
    # Of a chain only its innermost error would be read.
    assert caught.value.__cause__ is None


def test_what_is_no_error_of_ours_nor_of_the_database_is_left_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), failures_explained():
        raise ZeroDivisionError
