"""What does a command of dbt's need that somebody types? The choice of models and tests that a run makes, and its records."""

import contextlib
from collections.abc import Callable, Mapping, Sequence

from explorer.marts.command import TenantDbt
from explorer.marts.definitions import definitions
from explorer.marts.errors import TransformFailed
from explorer.marts.manifest import Models, manifest, of_others
from explorer.marts.planning import left_out, state_of, updates
from explorer.marts.process import invoke
from explorer.marts.recording import record
from explorer.marts.results import Outcome

# dbt's commands that choose among models and tests, by `--select` and `--exclude`.
_CHOOSING = frozenset({"build", "compile", "generate", "list", "ls", "run", "show", "test"})
# Where `--exclude` means nothing.
_NOT_CHOOSING = frozenset({"run-operation", "--inline", "--inline-direct", "--selector"})
# Those whose results are of models and tests that ran.
_RUNNING = frozenset({"build", "retry", "run", "test"})
# Options with which dbt makes other rows than a run would, or makes them elsewhere.
_OTHERWISE = frozenset({
    "--defer", "--empty", "--event-time-end", "--event-time-start", "--favor-state", "--profile", "--profiles-dir",
    "--project-dir", "--sample", "--target", "--vars", "-t",
})  # fmt: skip


def run_command(dbt: TenantDbt, arguments: Sequence[str], *, run_id: str, tell: Callable[[str], None]) -> Outcome:
    """Run dbt's own command line, with its output on the terminal. `tell` is called with a sentence for all that is left out.

    What a run leaves out for the tenant is excluded, beside what the arguments exclude. What tests find is recorded; and the next
    run has its step of models, so that Dagster shows what the command made. The caller holds the tenant's run lock.

    Raises:
        TransformFailed: dbt could not run.
        psycopg.Error: the connection broke.
    """
    given = {argument.partition("=")[0] for argument in arguments}
    models = _models(dbt)
    if models is None:
        return invoke(arguments, dbt.environment(run_id), lambda _: None)
    without = _left_out(dbt, models) if given & _CHOOSING and not given & _NOT_CHOOSING else {}
    for reason in dict.fromkeys(without.values()):
        tell(f"Left out: {', '.join(name for name in without if without[name] == reason)}. {reason}")
    is_ours = not given & _OTHERWISE
    now = definitions(dbt.settings, models) if is_ours else {}
    known = _updates(dbt, models, now) if is_ours and given & _RUNNING else {}
    exclusion = ["--exclude", *without] if without else []
    outcome = invoke([*arguments, *exclusion], dbt.environment(run_id, now, known), lambda _: None)
    if is_ours and given & _RUNNING:
        with dbt.login.connect(autocommit=True) as connection:
            state = state_of(connection, dbt.schemas)
            record(connection, dbt, models, state, outcome.results, version=run_id, run_id=run_id)
    return outcome


def _models(dbt: TenantDbt) -> Models | None:
    """None of a project that cannot be read, of which dbt itself says why."""
    with contextlib.suppress(TransformFailed):
        return Models(manifest(dbt.settings, dbt.provider, keep_dbt=True))
    return None


def _updates(dbt: TenantDbt, models: Models, now: Mapping[str, str]) -> Mapping[str, int]:
    with dbt.login.connect(autocommit=True) as connection:
        return updates(connection, dbt.schemas, models, state_of(connection, dbt.schemas), now)


def _left_out(dbt: TenantDbt, models: Models) -> Mapping[str, str]:
    others = f"Runs of this tenant build models/{dbt.provider}/, and nothing that reads other models."
    with dbt.login.connect(autocommit=True) as connection:
        lacking = left_out(dbt.schemas, models, state_of(connection, dbt.schemas))
    return {**dict.fromkeys(of_others(dbt.settings, dbt.provider), others), **lacking}
