"""The GraphQL client of the bridge and the command line: launch, follow, stop and list runs, assets, partitions, health.

Callers check permissions; the tools put the answers into words for agents.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Self

from msgspec.structs import replace

from explorer.contract.names import CODE_LOCATION, REPOSITORY, TENANT_PARTITIONS
from explorer.contract.tags import RunTags
from explorer.core.runtime_state import known_webserver_token, read_state
from explorer.core.settings import Settings
from mcp_bridge.clients.dagster.errors import CancelRefused, LaunchRefused, unknown_run
from mcp_bridge.clients.dagster.reading import (
    first_line,
    read_asset,
    read_event,
    read_run,
    require,
    require_no_fault,
    unhealthy_daemons,
)
from mcp_bridge.clients.dagster.records import ACTIVE, AssetState, Health, Run, RunEvent, RunStatus, Schedule
from mcp_bridge.clients.dagster.stopping import stop_run
from mcp_bridge.clients.dagster.transport import Transport
from mcp_bridge.clients.dagster.watching import RunWatch, RunWatches

_EVENTS_PER_POLL = 1000
_NO_TAGS = RunTags()


class DagsterClient:
    """GraphQL client of one Dagster webserver, for use inside one event loop.

    `url` and `token` may be functions. They are called again after each connection failure, because a restarted Dagster
    may use another port. `timeout_s`: for a launch or cancel, which wait for more than Dagster itself.
    `ui_url`: where browsers find it, if not at `url`.
    `on_finished` gets each run that somebody followed to its end, and its whole log.

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
        ui_url: str | None = None,
    ) -> None:
        self._ui_url = ui_url
        self._transport = Transport(
            _as_function(url), _as_function(token), timeout_s=timeout_s, read_timeout_s=read_timeout_s
        )
        self.on_finished: Callable[[Run, list[RunEvent]], object] = lambda run, events: None
        self._watches = RunWatches(self._poll, lambda run, events: self.on_finished(run, events))

    @classmethod
    def from_settings(cls, settings: Settings, url: str | None = None, *, timeout_s: float = 30.0) -> Self:
        """The Dagster at `url`; without it that of `EXPLORER_DAGSTER_URL`, else the one that `explorer up` runs."""

        def locate() -> str | None:
            return url or settings.dagster_url or read_state(settings.home).get("dagster_url")

        def token() -> str:
            secret = settings.dagster_token
            return secret.get_secret_value() if secret else known_webserver_token(settings.home)

        return cls(locate, token, timeout_s=timeout_s, ui_url=settings.ui_url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._watches.close()
        await self._transport.aclose()

    @property
    def url(self) -> str | None:
        """The base URL in use, without a trailing slash; None when Dagster was never started."""
        return self._transport.url

    def run_url(self, run_id: str) -> str | None:
        """The run's page in the Dagster UI."""
        base = self._ui_url or self.url
        return f"{base}/runs/{run_id}" if base else None

    async def launch(
        self,
        job: str,
        partition: str | None,
        *,
        tags: RunTags = _NO_TAGS,
        assets: Sequence[Sequence[str]] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start `job`, for one partition if it has any. The caller has checked the partition key; Dagster does not.

        Args:
            assets: asset keys that the run is restricted to; None for all assets of the job.
            config: the run's configuration.

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
            "runConfigData": config or {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in run_tags.items()]},
        }
        answer = (await self._transport.mutate("launch", params=params))["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            require_no_fault(answer)
            faults = "; ".join(error["message"] for error in answer.get("errors", []))
            why = first_line(answer.get("message") or faults or answer["__typename"])
            raise LaunchRefused(
                f"Dagster did not accept a run of {job!r}: {why}",
                next_step="list_pipelines shows what can be run.",
            )
        return read_run(answer["run"])

    async def run(self, run_id: str) -> Run:
        """Raises: UnknownRun."""
        answer = (await self._transport.query("run", runId=run_id))["runOrError"]
        if answer["__typename"] != "Run":
            require_no_fault(answer)
            raise unknown_run(run_id)
        return read_run(answer)

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
        """Runs that match all filters, newest first. `cursor` is the id of the last run of the page before."""
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
        answer = (await self._transport.query("runs", filter=flt, limit=limit, cursor=cursor))["runsOrError"]
        require(answer, "Runs")
        return [read_run(row) for row in answer["results"]]

    async def active_run(self, partition: str, job: str | None = None) -> Run | None:
        """The unfinished run of the partition that is at work, or that Dagster takes first from its queue.

        A run that is being cancelled is returned only when there is no other, because it will not finish its work.
        """
        active = await self.runs(partition=partition, job=job, statuses=ACTIVE, limit=50)
        at_work = [run for run in active if run.status != "CANCELING"]
        oldest_first = reversed(at_work or active)
        return min(oldest_first, key=lambda run: (run.status == "QUEUED", -(run.tags.priority or 0)), default=None)

    async def stop(self, run_id: str, *, force: bool = False) -> Run:
        """Stop a run in any state and return it as it is then: CANCELING or ended. `force`: mark it cancelled at once, even
        when it is already being cancelled.

        Raises:
            UnknownRun: no such run.
            CancelRefused: Dagster kept refusing.
        """
        return await stop_run(self.run, self._terminate, run_id, force=force)

    async def _terminate(self, run_id: str, *, force: bool) -> None:
        policy = "MARK_AS_CANCELED_IMMEDIATELY" if force else "SAFE_TERMINATE"
        answer = (await self._transport.mutate("terminate", runId=run_id, policy=policy))["terminateRun"]
        if answer["__typename"] == "RunNotFoundError":
            raise unknown_run(run_id)
        if answer["__typename"] != "TerminateRunSuccess":
            require_no_fault(answer)
            raise CancelRefused(
                f"Run {run_id} was not cancelled: {first_line(answer.get('message', ''))}",
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

    async def log_page(self, run_id: str, cursor: str | None) -> tuple[Run, list[RunEvent], str | None, bool]:
        """The run, the next events of its log, the cursor behind them, and whether there are more now. The same cursor gives the
        same events again, and those that came meanwhile.

        Raises:
            UnknownRun: no such run.
        """
        return await self._poll(run_id, cursor)

    async def results(self, run_id: str) -> tuple[Run, list[RunEvent]]:
        """The run, and from its log so far the materializations, check evaluations and failures.

        Raises:
            UnknownRun: no such run.
        """
        found: list[RunEvent] = []
        cursor: str | None = None
        more, ended = True, False
        while more:
            run, page, cursor, more = await self._poll(run_id, cursor, "results")
            found += page
            # Dagster may read the log before the run's state, so the page that first shows the run as ended may lack its
            # last events.
            more = more or (run.finished and not ended and not any(event.ends_the_run for event in page))
            ended = run.finished
        return run, found

    def watch(self, run_id: str) -> AbstractAsyncContextManager[RunWatch]:
        """Follow a run from its first event. Watchers of one run share one poller."""
        return self._watches.watch(run_id)

    async def follow(self, run_id: str) -> AsyncIterator[RunEvent]:
        """All events of a run as they happen, from the first; ends with the run.

        Raises:
            UnknownRun: no such run.
        """
        async with self.watch(run_id) as watch:
            while not watch.done:
                for event in await watch.events(timeout_s=15.0):
                    yield event

    async def _poll(
        self, run_id: str, cursor: str | None, document: str = "log"
    ) -> tuple[Run, list[RunEvent], str | None, bool]:
        data = await self._transport.query(document, runId=run_id, cursor=cursor, limit=_EVENTS_PER_POLL)
        log = data["logsForRun"]
        if data["runOrError"]["__typename"] != "Run" or log["__typename"] != "EventConnection":
            require_no_fault(data["runOrError"])
            require_no_fault(log)
            raise unknown_run(run_id)
        events = [read_event(row) for row in log["events"] if "timestamp" in row]
        return read_run(data["runOrError"]), events, log["cursor"], bool(log["hasMore"])

    async def assets(
        self, job: str, partition: str | None = None, keys: Sequence[Sequence[str]] | None = None
    ) -> list[AssetState]:
        """The job's assets, or the assets of `keys`. With `partition`, each has its latest materialization in it.

        Raises:
            DagsterUnavailable: also when the code location does not define the job.
        """
        selector = {"pipelineName": job, "repositoryName": REPOSITORY, "repositoryLocationName": CODE_LOCATION}
        partitions = [partition] if partition is not None else []
        wanted = None if keys is None else [{"path": list(key)} for key in keys]
        nodes = (
            await self._transport.query(
                "assets", job=selector, keys=wanted, partitions=partitions, materialized=partition is not None
            )
        )["assetNodes"]
        return [read_asset(node) for node in nodes]

    async def schedule(self, name: str) -> Schedule | None:
        """The schedule of this name; None when the code location does not define it."""
        selector = {"repositoryName": REPOSITORY, "repositoryLocationName": CODE_LOCATION, "scheduleName": name}
        answer = (await self._transport.query("schedule", schedule=selector))["scheduleOrError"]
        if answer["__typename"] == "ScheduleNotFoundError":
            return None
        require(answer, "Schedule")
        return Schedule(running=answer["scheduleState"]["status"] == "RUNNING")

    async def add_partition(self, key: str) -> bool:
        """Register a tenant as a partition; False when it was already there."""
        repository = {"repositoryName": REPOSITORY, "repositoryLocationName": CODE_LOCATION}
        answer = (
            await self._transport.mutate("add_partition", key=key, definition=TENANT_PARTITIONS, repository=repository)
        )["addDynamicPartition"]
        if answer["__typename"] == "DuplicateDynamicPartitionError":
            return False
        require(answer, "AddDynamicPartitionSuccess")
        return True

    async def delete_partition(self, key: str) -> None:
        """Delete a tenant's partition; its run history stays."""
        repository = {"repositoryName": REPOSITORY, "repositoryLocationName": CODE_LOCATION}
        answer = (
            await self._transport.mutate(
                "delete_partitions", keys=[key], definition=TENANT_PARTITIONS, repository=repository
            )
        )["deleteDynamicPartitions"]
        require(answer, "DeleteDynamicPartitionsSuccess")

    async def health(self) -> Health:
        """Whether Dagster can run the project's jobs. Raises DagsterUnavailable when nothing answers."""
        data = await self._transport.query("health")
        entries = data["workspaceOrError"].get("locationEntries", [])
        entry = next((e for e in entries if e["name"] == CODE_LOCATION), None)
        loaded = (entry or {}).get("locationOrLoadError") or {}
        daemons = data["instance"]["daemonHealth"]["allDaemonStatuses"]
        return Health(
            version=data["version"],
            code_loaded=loaded.get("__typename") == "RepositoryLocation",
            error=first_line(loaded["message"]) if loaded.get("message") else None,
            unhealthy_daemons=unhealthy_daemons(daemons, time.time()),
        )


def _as_function(value: str | Callable[[], str | None] | None) -> Callable[[], str | None]:
    return value if callable(value) else lambda: value
