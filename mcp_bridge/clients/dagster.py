"""How the bridge and the command line talk to Dagster: GraphQL over HTTP, no dagster import.

Launch, follow, cancel and list runs, read the latest materializations of a tenant's partition, register partitions,
ask for health. Who may do it is decided by the callers; what the answers mean to an agent, in the tools.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self, TypeVar

import httpx
from msgspec.structs import replace

from explorer.contract.headers import TOKEN_HEADER
from explorer.contract.materializations import Tables
from explorer.contract.names import CODE_LOCATION, REPOSITORY, TENANT_PARTITIONS
from explorer.contract.tags import RunTags
from explorer.core.errors import ExplorerError, TransientError
from explorer.core.runtime_state import known_webserver_token, read_state
from explorer.core.settings import Settings

T = TypeVar("T")
_log = logging.getLogger(__name__)

RunStatus = Literal[
    "QUEUED",
    "NOT_STARTED",
    "MANAGED",
    "STARTING",
    "STARTED",
    "SUSPENDED",
    "SUCCESS",
    "FAILURE",
    "CANCELING",
    "CANCELED",
]
ACTIVE: tuple[RunStatus, ...] = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")
FINISHED: tuple[RunStatus, ...] = ("SUCCESS", "FAILURE", "CANCELED")
# What Dagster does not try to stop: the run is on its way to the queue, or its worker is coming up.
_NOT_ASKED: tuple[RunStatus, ...] = ("NOT_STARTED", "STARTING", "MANAGED", "SUSPENDED")

# What Dagster raises in a step when its run is cancelled, and what reaches code that answers the signal itself.
_INTERRUPTS = frozenset({"DagsterExecutionInterruptedError", "KeyboardInterrupt"})
_POLL_S = 0.25
# Dagster refuses to stop a run whose worker is coming up: it is asked again for so long, then the run is marked cancelled.
_STOP_ASKED_S = 2.0
_STOP_AGAIN_S = 0.1
# A worker that had looked at its run just before that still starts it.
_STOP_WATCHED_S = 1.5
_EVENTS_PER_POLL = 1000
_NO_TAGS = RunTags()


async def in_time(asked: Awaitable[T], within_s: float) -> T:
    """What Dagster says within `within_s`. Raises: DagsterUnavailable."""
    try:
        async with asyncio.timeout(within_s):
            return await asked
    except TimeoutError:
        raise _unavailable(f"it has not answered for {within_s:g} s") from None


class DagsterUnavailable(TransientError):
    """No Dagster webserver answers, or its code location is not loaded."""

    code = "dagster_unavailable"


class DagsterUnauthorized(ExplorerError):
    """The webserver refused a mutation: the token is not its own."""

    code = "dagster_unauthorized"


class UnknownRun(ExplorerError):
    """No run has this id."""

    code = "unknown_run"


class LaunchRefused(ExplorerError):
    """Dagster did not accept the run: unknown job, unknown asset, invalid configuration."""

    code = "launch_refused"


class CancelRefused(ExplorerError):
    """The run could not be cancelled; most often because it has ended."""

    code = "cancel_refused"


@dataclass(frozen=True)
class Run:
    """One Dagster run. Times are UTC. `assets`: the keys that it is restricted to; None when it is of all of its job's."""

    run_id: str
    job: str
    status: RunStatus
    tags: RunTags
    created_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    assets: frozenset[tuple[str, ...]] | None = None

    @property
    def tenant(self) -> str | None:
        return self.tags.partition_key

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end, or to now while the run goes on; None before it started."""
        if self.started_at is None:
            return None
        return ((self.ended_at or datetime.now(UTC)) - self.started_at).total_seconds()


@dataclass(frozen=True)
class CheckResult:
    """One evaluation of an asset check."""

    name: str
    asset_key: tuple[str, ...]
    passed: bool
    severity: str
    description: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class RunEvent:
    """One entry of a run's log; `kind` is Dagster's type name (`ExecutionStepStartEvent`, `MaterializationEvent`).

    `interrupted`: a step's failure that is nothing but the run's cancel.
    """

    kind: str
    at: datetime
    message: str
    level: str
    step_key: str | None = None
    asset_key: tuple[str, ...] | None = None
    partition: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    check: CheckResult | None = None
    error: str | None = None
    interrupted: bool = False


@dataclass(frozen=True)
class AssetState:
    """An asset's definition and, for one partition, its latest materialization (None: never materialized)."""

    key: tuple[str, ...]
    description: str | None
    group: str
    kinds: tuple[str, ...]
    upstream: tuple[tuple[str, ...], ...]
    downstream: tuple[tuple[str, ...], ...]
    run_id: str | None = None
    materialized_at: datetime | None = None
    metadata: Tables = field(default_factory=Tables)


@dataclass(frozen=True)
class Schedule:
    """A schedule as it is now. `interval_s`: seconds between its next two ticks; None when it has none."""

    running: bool
    cron: str
    timezone: str
    interval_s: int | None


@dataclass(frozen=True)
class Health:
    """What answers at the webserver: its version, whether the code is loaded, which needed daemons are not healthy."""

    version: str
    code_loaded: bool
    error: str | None
    unhealthy_daemons: tuple[str, ...]


class DagsterClient:
    """GraphQL client of one Dagster webserver, for use inside one event loop.

    `url` and `token` may be functions: they are asked again after each connection failure, since a restarted Dagster
    may have moved to another port. `timeout_s`: of a launch or cancel, which wait for more than Dagster itself.

    Raises:
        DagsterUnavailable: from every method, when nothing answers or the answer is not Dagster's.
    """

    def __init__(
        self,
        url: str | Callable[[], str | None],
        token: str | Callable[[], str] | None = None,
        *,
        timeout_s: float = 30.0,
        read_timeout_s: float = 10.0,
    ) -> None:
        self._locate, self._token = _as_function(url), _as_function(token)
        # The platform's own servers are meant: a proxy of the environment must not see the token.
        self._http = httpx.AsyncClient(timeout=timeout_s, trust_env=False, follow_redirects=False)
        self._read_timeout_s = read_timeout_s
        self._url: str | None = None
        self._feeds: dict[str, _Feed] = {}
        # Told of each run that somebody has followed to its end, with its whole log.
        self.on_finished: Callable[[Run, list[RunEvent]], object] = lambda run, events: None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The Dagster of `EXPLORER_DAGSTER_URL`, else the one that `explorer up` runs."""

        def locate() -> str | None:
            return settings.dagster_url or read_state(settings.home).get("dagster_url")

        def token() -> str:
            secret = settings.dagster_token
            return secret.get_secret_value() if secret else known_webserver_token(settings.home)

        return cls(locate, token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        for feed in list(self._feeds.values()):
            feed.stop()
        await self._http.aclose()

    @property
    def url(self) -> str | None:
        """Base URL in use, without a trailing slash; None when Dagster was never started."""
        self._url = self._url or (self._locate() or "").rstrip("/") or None
        return self._url

    def run_url(self, run_id: str) -> str | None:
        """Where the Dagster UI shows the run."""
        return f"{self.url}/runs/{run_id}" if self.url else None

    # -- runs ---------------------------------------------------------------------------------------------------------

    async def launch(
        self,
        job: str,
        partition: str,
        *,
        tags: RunTags = _NO_TAGS,
        assets: Sequence[Sequence[str]] | None = None,
    ) -> Run:
        """Start `job` for one partition. Dagster does not check the partition key: the caller has.

        Args:
            assets: asset keys to restrict the run to; all of the job's when None.

        Raises:
            LaunchRefused: the job or an asset is unknown, or the configuration invalid.
        """
        selector: dict[str, Any] = {
            "repositoryLocationName": CODE_LOCATION,
            "repositoryName": REPOSITORY,
            "jobName": job,
        }
        if assets is not None:
            selector["assetSelection"] = [{"path": list(key)} for key in assets]
        run_tags = replace(tags, partition_key=partition).to_tags()
        params = {
            "selector": selector,
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in run_tags.items()]},
        }
        answer = (await self._mutate(_LAUNCH, p=params))["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            _require_no_fault(answer)
            faults = "; ".join(error["message"] for error in answer.get("errors", []))
            why = _first_line(answer.get("message") or faults or answer["__typename"])
            raise LaunchRefused(
                f"Dagster did not accept a run of {job!r}: {why}",
                next_step="list_pipelines shows what can be run.",
            )
        return _run(answer["run"])

    async def run(self, run_id: str) -> Run:
        """Raises: UnknownRun."""
        answer = (await self._query(_RUN, r=run_id))["runOrError"]
        if answer["__typename"] != "Run":
            raise _unknown_run(run_id)
        return _run(answer)

    async def runs(
        self,
        *,
        partition: str | None = None,
        job: str | None = None,
        statuses: Sequence[RunStatus] | None = None,
        tags: RunTags = _NO_TAGS,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> list[Run]:
        """Runs that match all filters, newest first. `cursor` is the id of the last run already seen."""
        wanted = replace(tags, partition_key=partition).to_tags()
        flt: dict[str, Any] = {"tags": [{"key": key, "value": value} for key, value in wanted.items()]}
        if job is not None:
            flt["pipelineName"] = job
        if statuses is not None:
            flt["statuses"] = list(statuses)
        if created_after is not None:
            flt["createdAfter"] = created_after.timestamp()
        if created_before is not None:
            flt["createdBefore"] = created_before.timestamp()
        answer = (await self._query(_RUNS, f=flt, n=limit, c=cursor))["runsOrError"]
        _require(answer, "Runs")
        return [_run(row) for row in answer["results"]]

    async def active_run(self, partition: str, job: str | None = None) -> Run | None:
        """The oldest run of the partition that has not ended: the one that holds up any further one.

        One that is being cancelled is named only where there is no other: it will not do what it was launched for.
        """
        active = await self.runs(partition=partition, job=job, statuses=ACTIVE, limit=50)
        at_work = [run for run in active if run.status != "CANCELING"]
        return next(reversed(at_work or active), None)

    async def stop(self, run_id: str, *, force: bool = False) -> Run:
        """See to it that a run ends, whatever state it is in; the run as it then is: CANCELING or ended.

        Dagster refuses while the run's worker is coming up, and while the run is not queued yet: it is asked again until it
        can, and after two seconds the run is marked cancelled, which the worker sees before its first step. `force`: marked at
        once, also when it is being cancelled already.

        Raises:
            UnknownRun: no such run.
            CancelRefused: Dagster went on refusing.
        """
        started = time.monotonic()
        ended_at: float | None = None
        refused: CancelRefused | None = None
        while True:
            run = await self.run(run_id)
            now = time.monotonic()
            if run.finished:
                # One that was marked in the moment when it left the queue, or when its worker began, comes back.
                if run.status != "CANCELED" or ended_at is None or now - ended_at > _STOP_WATCHED_S:
                    return run
            elif run.status == "CANCELING" and not force:
                return run
            elif now - started > _STOP_ASKED_S + 3 * _STOP_WATCHED_S:
                raise refused or CancelRefused(
                    f"Run {run_id} goes on although it was marked cancelled.", next_step="Ask for it once more."
                )
            else:
                coming_up = run.status in _NOT_ASKED
                mark = force or (coming_up and now - started > _STOP_ASKED_S)
                try:
                    if mark or not coming_up:
                        await self._terminate(run_id, force=mark)
                        ended_at = now if mark or run.status == "QUEUED" else None
                        force = False
                except CancelRefused as error:
                    refused = error
            await asyncio.sleep(_STOP_AGAIN_S)

    async def _terminate(self, run_id: str, *, force: bool) -> None:
        policy = "MARK_AS_CANCELED_IMMEDIATELY" if force else "SAFE_TERMINATE"
        answer = (await self._mutate(_TERMINATE, r=run_id, p=policy))["terminateRun"]
        if answer["__typename"] == "RunNotFoundError":
            raise _unknown_run(run_id)
        if answer["__typename"] != "TerminateRunSuccess":
            _require_no_fault(answer)
            raise CancelRefused(
                f"Run {run_id} was not cancelled: {_first_line(answer.get('message', ''))}",
                next_step="get_materialization_status tells its state; force=true marks it cancelled at once.",
            )

    async def events(self, run_id: str) -> list[RunEvent]:
        """The whole log of a run so far.

        Raises:
            UnknownRun: no such run.
        """
        events: list[RunEvent] = []
        cursor: str | None = None
        while True:
            _, page, cursor, more = await self._poll(run_id, cursor)
            events += page
            if not more:
                return events

    async def results(self, run_id: str) -> tuple[Run, list[RunEvent]]:
        """The run, and of its log so far what it materialized, which checks it evaluated and what failed.

        Raises:
            UnknownRun: no such run.
        """
        found: list[RunEvent] = []
        cursor: str | None = None
        more = True
        while more:
            run, page, cursor, more = await self._poll(run_id, cursor, _RESULTS)
            found += page
        return run, found

    @contextlib.asynccontextmanager
    async def watch(self, run_id: str) -> AsyncIterator["RunWatch"]:
        """Follow a run from its first event on. Watchers of one run share one poller."""
        feed = self._feeds.get(run_id)
        if feed is None or feed.stopped:
            feed = self._feeds[run_id] = _Feed(self, run_id)
        feed.watchers += 1
        try:
            yield RunWatch(feed)
        finally:
            feed.watchers -= 1
            if feed.watchers == 0:
                feed.stop()
                if self._feeds.get(run_id) is feed:
                    del self._feeds[run_id]

    async def follow(self, run_id: str) -> AsyncIterator[RunEvent]:
        """Every event of a run, from its first, as they happen; ends with the run.

        Raises:
            UnknownRun: no such run.
        """
        async with self.watch(run_id) as watch:
            while not watch.done:
                for event in await watch.events(timeout_s=15.0):
                    yield event

    async def _poll(
        self, run_id: str, cursor: str | None, document: str | None = None
    ) -> tuple[Run, list[RunEvent], str | None, bool]:
        data = await self._query(document or _LOG, r=run_id, c=cursor, n=_EVENTS_PER_POLL)
        if data["runOrError"]["__typename"] != "Run" or data["logsForRun"]["__typename"] != "EventConnection":
            raise _unknown_run(run_id)
        log = data["logsForRun"]
        events = [_event(row) for row in log["events"] if "timestamp" in row]
        return _run(data["runOrError"]), events, log["cursor"], bool(log["hasMore"])

    # -- assets and partitions ----------------------------------------------------------------------------------------

    async def assets(
        self, job: str, partition: str | None = None, keys: Sequence[Sequence[str]] | None = None
    ) -> list[AssetState]:
        """The job's assets, or those of `keys`; with `partition`, each with its latest materialization there.

        Raises:
            DagsterUnavailable: also when the job is not among what the code location defines.
        """
        pipeline = {"pipelineName": job, "repositoryName": REPOSITORY, "repositoryLocationName": CODE_LOCATION}
        partitions = [partition] if partition is not None else []
        wanted = None if keys is None else [{"path": list(key)} for key in keys]
        nodes = (await self._query(_ASSETS, p=pipeline, a=wanted, k=partitions, m=partition is not None))["assetNodes"]
        return [_asset(node) for node in nodes]

    async def schedule(self, name: str) -> Schedule | None:
        """The schedule of that name; None when the code location defines none."""
        selector = {"repositoryName": REPOSITORY, "repositoryLocationName": CODE_LOCATION, "scheduleName": name}
        answer = (await self._query(_SCHEDULE, s=selector))["scheduleOrError"]
        if answer["__typename"] == "ScheduleNotFoundError":
            return None
        _require(answer, "Schedule")
        ticks = [tick["timestamp"] for tick in answer["futureTicks"]["results"] if tick and tick["timestamp"]]
        return Schedule(
            running=answer["scheduleState"]["status"] == "RUNNING",
            cron=answer["cronSchedule"],
            timezone=answer["executionTimezone"] or "UTC",
            interval_s=round(ticks[1] - ticks[0]) if len(ticks) > 1 else None,
        )

    async def add_partition(self, key: str) -> bool:
        """Register a tenant as a partition; False when it was there already."""
        repository = {"repositoryName": REPOSITORY, "repositoryLocationName": CODE_LOCATION}
        answer = (await self._mutate(_ADD_PARTITION, k=key, d=TENANT_PARTITIONS, r=repository))["addDynamicPartition"]
        if answer["__typename"] == "DuplicateDynamicPartitionError":
            return False
        _require(answer, "AddDynamicPartitionSuccess")
        return True

    async def delete_partition(self, key: str) -> None:
        """Take a tenant's partition off the list; its run history stays."""
        repository = {"repositoryName": REPOSITORY, "repositoryLocationName": CODE_LOCATION}
        answer = (await self._mutate(_DELETE_PARTITION, k=[key], d=TENANT_PARTITIONS, r=repository))[
            "deleteDynamicPartitions"
        ]
        _require(answer, "DeleteDynamicPartitionsSuccess")

    async def health(self) -> Health:
        """Whether Dagster answers and can run the project's jobs. Raises DagsterUnavailable when nothing answers."""
        data = await self._query(_HEALTH)
        entries = data["workspaceOrError"].get("locationEntries", [])
        entry = next((e for e in entries if e["name"] == CODE_LOCATION), None)
        loaded = (entry or {}).get("locationOrLoadError") or {}
        daemons = data["instance"]["daemonHealth"]["allDaemonStatuses"]
        return Health(
            version=data["version"],
            code_loaded=loaded.get("__typename") == "RepositoryLocation",
            error=_first_line(loaded["message"]) if loaded.get("message") else None,
            unhealthy_daemons=tuple(d["daemonType"] for d in daemons if d["required"] and not d["healthy"]),
        )

    # -- transport ----------------------------------------------------------------------------------------------------

    async def _query(self, document: str, **variables: Any) -> dict[str, Any]:
        return await in_time(self._post(document, variables, {}), self._read_timeout_s)

    async def _mutate(self, document: str, **variables: Any) -> dict[str, Any]:
        token = self._token()
        return await self._post(document, variables, {TOKEN_HEADER: token} if token else {})

    async def _post(self, document: str, variables: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        url = self.url
        if url is None:
            raise _unavailable("it was not started")
        try:
            response = await self._http.post(
                f"{url}/graphql", json={"query": document, "variables": variables}, headers=headers
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._url = None
            moved = isinstance(error, httpx.ConnectError) and self.url != url
            if moved:
                return await self._post(document, variables, headers)
            _log.info("Dagster at %s does not answer: %s %s", url, type(error).__name__, error)
            raise _unavailable("it does not answer") from None
        return self._read(response)

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        if response.status_code in (401, 403):
            raise DagsterUnauthorized(
                "Dagster refused the call: the token is not the one its webserver was started with.",
                next_step="Set EXPLORER_DAGSTER_TOKEN, or start the webserver with `explorer up`.",
            )
        try:
            body = response.json()
        except ValueError:
            self._url = None
            _log.info("What is at %s answers %s without JSON", response.url, response.status_code)
            raise _unavailable("something else answers at its address") from None
        if not isinstance(body, dict) or body.get("data") is None or body.get("errors"):
            errors = body.get("errors") if isinstance(body, dict) else None
            why = errors[0].get("message", "") if errors else f"status {response.status_code}"
            _log.info("Dagster answered with an error: %s", why)
            raise _unavailable("it failed while answering")
        data = body["data"]
        return dict(data)


class RunWatch:
    """One caller's view of a followed run; made by `DagsterClient.watch`."""

    def __init__(self, feed: "_Feed") -> None:
        self._feed = feed
        self._seen = 0

    @property
    def run(self) -> Run | None:
        """The run as last seen; None before the first answer."""
        return self._feed.run

    @property
    def done(self) -> bool:
        """The run has ended and this caller has been given all of its events."""
        return self._feed.complete and self._seen == len(self._feed.log)

    async def events(self, timeout_s: float) -> list[RunEvent]:
        """Events since the last call; waits for one at most `timeout_s`, then returns an empty list.

        Raises:
            UnknownRun, DagsterUnavailable: what stopped the poller.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._feed.wait_beyond(self._seen)
        self._feed.raise_failure()
        fresh = self._feed.log[self._seen :]
        self._seen += len(fresh)
        return fresh


class _Feed:
    """The one poller of a run: reads its log every quarter of a second while anybody watches."""

    _MAX_FAILURES = 20

    def __init__(self, client: DagsterClient, run_id: str) -> None:
        self.watchers = 0
        self.run: Run | None = None
        self.log: list[RunEvent] = []
        self.complete = False
        self._failure: ExplorerError | None = None
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._read(client, run_id), name=f"follow {run_id}")

    @property
    def stopped(self) -> bool:
        return self._task.done() and not self.complete

    def stop(self) -> None:
        self._task.cancel()

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def wait_beyond(self, seen: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.log) > seen or self.complete or self._failure is not None)

    async def _read(self, client: DagsterClient, run_id: str) -> None:
        cursor: str | None = None
        failures = 0
        while not self.complete and self._failure is None:
            try:
                run, page, cursor, more = await client._poll(run_id, cursor)
                failures = 0
                # Events may still arrive just after the status changed: only an empty page after the end is the end.
                self.complete = run.finished and not page and self.run is not None and self.run.finished
                self.run = run
                self.log += page
                if self.complete:
                    client.on_finished(run, self.log)
            except DagsterUnavailable as error:
                failures, more = failures + 1, False
                self._failure = error if failures >= self._MAX_FAILURES else None
            except ExplorerError as error:
                self._failure, more = error, False
            async with self._changed:
                self._changed.notify_all()
            if not more and not self.complete:
                await asyncio.sleep(_POLL_S)


def plain_metadata(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Dagster's typed metadata entries as `{label: plain value}`; kinds without a plain value are left out."""
    return {entry["label"]: value for entry in entries if (value := _metadata_value(entry)) is not None}


def _metadata_value(entry: dict[str, Any]) -> Any:
    if entry.get("intRepr") is not None:
        return int(entry["intRepr"])
    if entry.get("jsonString") is not None:
        return json.loads(entry["jsonString"])
    for name in ("floatValue", "text", "boolValue", "mdStr", "url", "path", "unixTime"):
        if entry.get(name) is not None:
            return entry[name]
    return None


def _run(row: dict[str, Any]) -> Run:
    return Run(
        run_id=row["runId"],
        job=row["jobName"],
        status=row["status"],
        tags=RunTags.from_tags({tag["key"]: tag["value"] for tag in row["tags"]}),
        created_at=_at(row.get("creationTime")),
        started_at=_at(row.get("startTime")),
        ended_at=_at(row.get("endTime")),
        assets=_asset_keys(row.get("assetSelection")),
    )


def _asset_keys(rows: list[dict[str, Any]] | None) -> frozenset[tuple[str, ...]] | None:
    return frozenset(tuple(row["path"]) for row in rows) if rows is not None else None


def _event(row: dict[str, Any]) -> RunEvent:
    evaluation = row.get("evaluation")
    check = None
    if evaluation is not None:
        check = CheckResult(
            name=evaluation["checkName"],
            asset_key=tuple(evaluation["assetKey"]["path"]),
            passed=evaluation["success"],
            severity=evaluation["severity"],
            description=evaluation["description"],
            metadata=plain_metadata(evaluation["metadataEntries"]),
        )
    key = row.get("assetKey")
    return RunEvent(
        kind=row["__typename"],
        at=datetime.fromtimestamp(float(row["timestamp"]) / 1000, UTC),
        message=row["message"],
        level=row["level"],
        step_key=row["stepKey"],
        asset_key=tuple(key["path"]) if key else None,
        partition=row.get("partition"),
        metadata=plain_metadata(row.get("metadataEntries") or []),
        check=check,
        error=_innermost(row["error"]) if row.get("error") else None,
        interrupted=row["__typename"] == "ExecutionStepFailureEvent" and _is_interrupt(row.get("error")),
    )


def _is_interrupt(error: dict[str, Any] | None) -> bool:
    chain = [error, *(error.get("causes") or [])] if error else []
    return any(part["className"] in _INTERRUPTS for part in chain)


def _innermost(error: dict[str, Any]) -> str:
    """The cause that a person would name: the first error of the chain, without its stack."""
    causes = error.get("causes") or []
    return str((causes[-1] if causes else error)["message"]).strip()


def _asset(node: dict[str, Any]) -> AssetState:
    latest = next((m for m in node.get("latestMaterializationByPartition") or [] if m), None)
    return AssetState(
        key=tuple(node["assetKey"]["path"]),
        description=node["description"],
        group=node["groupName"],
        kinds=tuple(node["kinds"]),
        upstream=tuple(tuple(key["path"]) for key in node["dependencyKeys"]),
        downstream=tuple(tuple(key["path"]) for key in node["dependedByKeys"]),
        run_id=latest["runId"] if latest else None,
        materialized_at=datetime.fromtimestamp(float(latest["timestamp"]) / 1000, UTC) if latest else None,
        metadata=Tables.from_metadata(plain_metadata(latest["metadataEntries"]) if latest else {}),
    )


def _as_function(value: str | Callable[[], str | None] | None) -> Callable[[], str | None]:
    return value if callable(value) else lambda: value


def _at(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _require(answer: dict[str, Any], typename: str) -> None:
    if answer["__typename"] == "UnauthorizedError":
        raise DagsterUnauthorized(
            "Dagster's webserver is read-only.", next_step="Point EXPLORER_DAGSTER_URL to one that accepts mutations."
        )
    if answer["__typename"] != typename:
        _log.info("Dagster answered %s: %s", answer["__typename"], answer.get("message", ""))
        raise _unavailable("it failed while answering")


def _require_no_fault(answer: dict[str, Any]) -> None:
    """A fault inside Dagster is told to the operator: its words name addresses and classes."""
    if answer["__typename"] == "PythonError":
        _require(answer, "")


def _unknown_run(run_id: str) -> UnknownRun:
    return UnknownRun(f"There is no run {run_id[:64]!r}.", next_step="list_runs shows the runs.")


def _unavailable(why: str) -> DagsterUnavailable:
    return DagsterUnavailable(
        f"Dagster is not available: {why}.",
        next_step="Tables can be queried meanwhile. The operator starts it with `explorer up`, or sets EXPLORER_DAGSTER_URL.",
    )


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:300] if lines else ""


_RUN_FIELDS = "runId jobName status creationTime startTime endTime tags { key value } assetSelection { path }"
_METADATA = """fragment Metadata on MetadataEntry { label
  ... on IntMetadataEntry { intRepr } ... on FloatMetadataEntry { floatValue } ... on TextMetadataEntry { text }
  ... on JsonMetadataEntry { jsonString } ... on BoolMetadataEntry { boolValue } ... on MarkdownMetadataEntry { mdStr }
  ... on UrlMetadataEntry { url } ... on PathMetadataEntry { path }
  ... on TimestampMetadataEntry { unixTime: timestamp } }"""
_ERROR = "error { message className causes { message className } }"

_LAUNCH = f"""mutation($p: ExecutionParams!) {{ launchRun(executionParams: $p) {{ __typename
  ... on LaunchRunSuccess {{ run {{ {_RUN_FIELDS} }} }} ... on RunConfigValidationInvalid {{ errors {{ message }} }}
  ... on Error {{ message }} }} }}"""
_RUN = f"query($r: ID!) {{ runOrError(runId: $r) {{ __typename ... on Run {{ {_RUN_FIELDS} }} }} }}"
_RUNS = f"""query($f: RunsFilter, $n: Int, $c: String) {{
  runsOrError(filter: $f, limit: $n, cursor: $c) {{ __typename
  ... on Runs {{ results {{ {_RUN_FIELDS} }} }} ... on Error {{ message }} }} }}"""
_TERMINATE = """mutation($r: String!, $p: TerminateRunPolicy) {
  terminateRun(runId: $r, terminatePolicy: $p) { __typename
  ... on TerminateRunFailure { message } ... on Error { message } } }"""
_LOG_OF = """query($r: ID!, $c: String, $n: Int) {{ runOrError(runId: $r) {{ __typename ... on Run {{ {run} }} }}
  logsForRun(runId: $r, afterCursor: $c, limit: $n) {{ __typename
  ... on EventConnection {{ cursor hasMore events {{ __typename {events} }} }} }} }} {metadata}"""
_MATERIALIZED = "partition assetKey { path } metadataEntries { ...Metadata }"
_EVALUATED = "evaluation { checkName assetKey { path } success severity description metadataEntries { ...Metadata } }"
_MESSAGE = "timestamp message level stepKey"
_LOG = _LOG_OF.format(
    run=_RUN_FIELDS,
    metadata=_METADATA,
    events=f"""... on MessageEvent {{ {_MESSAGE} }} ... on MaterializationEvent {{ {_MATERIALIZED} }}
    ... on ObservationEvent {{ {_MATERIALIZED} }} ... on AssetMaterializationPlannedEvent {{ assetKey {{ path }} }}
    ... on AssetCheckEvaluationEvent {{ {_EVALUATED} }}
    ... on ExecutionStepFailureEvent {{ {_ERROR} }} ... on RunFailureEvent {{ {_ERROR} }}""",
)
_RESULTS = _LOG_OF.format(
    run=_RUN_FIELDS,
    metadata=_METADATA,
    events=f"""... on MaterializationEvent {{ {_MESSAGE} {_MATERIALIZED} }}
    ... on AssetCheckEvaluationEvent {{ {_MESSAGE} {_EVALUATED} }}
    ... on ExecutionStepFailureEvent {{ {_MESSAGE} {_ERROR} }} ... on RunFailureEvent {{ {_MESSAGE} {_ERROR} }}""",
)
_ASSETS = f"""query($p: PipelineSelector!, $a: [AssetKeyInput!], $k: [String!], $m: Boolean!) {{
  assetNodes(pipeline: $p, assetKeys: $a) {{
  assetKey {{ path }} description groupName kinds dependencyKeys {{ path }} dependedByKeys {{ path }}
  latestMaterializationByPartition(partitions: $k) @include(if: $m) {{ runId timestamp
    metadataEntries {{ ...Metadata }} }} }} }}
  {_METADATA}"""
_SCHEDULE = """query($s: ScheduleSelector!) { scheduleOrError(scheduleSelector: $s) { __typename
  ... on Schedule { cronSchedule executionTimezone scheduleState { status } futureTicks(limit: 2) { results { timestamp } } }
  ... on Error { message } } }"""
_ADD_PARTITION = """mutation($k: String!, $d: String!, $r: RepositorySelector!) {
  addDynamicPartition(partitionKey: $k, partitionsDefName: $d, repositorySelector: $r) { __typename
  ... on Error { message } } }"""
_DELETE_PARTITION = """mutation($k: [String!]!, $d: String!, $r: RepositorySelector!) {
  deleteDynamicPartitions(partitionKeys: $k, partitionsDefName: $d, repositorySelector: $r) { __typename
  ... on Error { message } } }"""
_HEALTH = """query { version workspaceOrError { ... on Workspace { locationEntries { name
  locationOrLoadError { __typename ... on Error { message } } } } }
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"""
