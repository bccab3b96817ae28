"""How typed errors reach the run: with code and next step, and retried only where that can help."""

import pytest

from explorer.http.errors import ApiError, CredentialsInvalid, Throttled
from explorer_dagster.resources import failure


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
