"""How do errors in a step reach the user? As a failure whose description begins with the cause."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
import psycopg
import psycopg2
from sqlalchemy.exc import DBAPIError

from explorer.contract.failures import Failure
from explorer.core.errors import ExplorerError, TransientError
from explorer.postgres.storage_errors import next_step_after, storage_failed
from explorer.tables.engine import TableResult, summary
from explorer_dagster.metadata import as_metadata
from explorer_dagster.retries import Retry


@contextmanager
def failures_explained() -> Iterator[None]:
    """Fail the step with the cause of any error of our code, the database or the file system in the block.

    Raises: dagster.Failure.
    """
    try:
        yield
    except ExplorerError as error:
        raise failure(error) from error
    except (psycopg.Error, psycopg2.Error, DBAPIError, OSError) as error:
        # Without the chain: Dagster shows its innermost error, which would hide the next step.
        raise failure(storage_failed(error)) from None


def failure(error: ExplorerError, retry: Retry | None = None) -> dg.Failure:
    """The error in Dagster's form: message, next step and code as metadata. Dagster retries the step only where that can help.

    `retry`: the run itself will be retried later, so that the step must not be retried now.
    """
    facts = Failure(code=error.code, next_step=error.next_step, details=error.details, **_when(retry))
    return dg.Failure(
        description=f"{error} {retry or ''}".strip(),
        metadata=as_metadata(facts),
        allow_retries=isinstance(error, TransientError) and retry is None,
    )


def failure_of_sources(said: str, errors: Mapping[str, Mapping[str, Any]], retry: Retry | None) -> dg.Failure:
    """The failure of a load with failed sources: source to `ExplorerError.as_dict()`; `said`: all of them in words."""
    metadata = {name: dg.MetadataValue.json(dict(error)) for name, error in errors.items()}
    return dg.Failure(
        description=f"{said} {retry or ''}".strip(),
        metadata={**metadata, **as_metadata(Failure(**_when(retry)))},
        allow_retries=retry is None,
    )


def raise_failures(results: Iterable[TableResult]) -> None:
    """Fail the step for tables or models that failed, after everything that was built has been recorded.

    Raises: dagster.Failure.
    """
    results = list(results)
    if said := summary(results):
        why = {result.table: result.message or "" for result in results if not result.is_current}
        raise dg.Failure(description=f"{said} {next_step_after(said)}", metadata=why, allow_retries=False)


def _when(retry: Retry | None) -> dict[str, Any]:
    return {"retry_at": retry.at.isoformat(), "retry_number": retry.number} if retry else {}
