"""What is wrong at present? One row per thing, until it was told that it is over.

A thing is told once, and again when its code changes: the same failure of a tenant, hour after hour, is one alert. `told_at` is
when it was last told, and stays while there is news of it: who heard that something is wrong hears that it is over.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import alerts
from explorer.core.jsonb import storable

Severity = Literal["warning", "critical"]
_MAX_CHARS = 500


@dataclass(frozen=True)
class Alert:
    """Something wrong. `key`: of the thing, such as `failure:<tenant>:<pipeline>`; `cause`: its kind; `code`: what
    exactly, a change of which is news; `since`, `is_over`: as the catalog knows it."""

    key: str
    cause: str
    severity: Severity
    code: str
    message: str
    next_step: str
    since: datetime | None = None
    is_over: bool = False


class AlertStore:
    """The alerts of the installation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def found(self, present: Collection[Alert], causes: Collection[str]) -> list[Alert]:
        """Note what is wrong now, of the kinds `causes` that were looked at; what is gone of them is over. Returns what is to be
        told, as it was left untold before too: new ones, and those that are over."""
        rows_found = sorted((_row(alert) for alert in present), key=lambda row: str(row["key"]))
        with self._database.begin() as connection:
            for row in rows_found:
                statement = insert(alerts).values(row)
                is_news = (alerts.c.code != statement.excluded.code) | alerts.c.over_at.is_not(None)
                values = {name: statement.excluded[name] for name in ("severity", "code", "message", "next_step")}
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=[alerts.c.key],
                        set_={
                            **values,
                            "since": case((is_news, func.now()), else_=alerts.c.since),
                            "over_at": None,
                        },
                    )
                )
            gone = alerts.c.cause.in_(causes) & alerts.c.key.not_in([row["key"] for row in rows_found])
            # Nobody was told of it: nobody needs to be told that it is over.
            connection.execute(delete(alerts).where(gone & alerts.c.told_at.is_(None) & alerts.c.over_at.is_(None)))
            connection.execute(update(alerts).where(gone & alerts.c.over_at.is_(None)).values(over_at=func.now()))
            changed_at = func.coalesce(alerts.c.over_at, alerts.c.since)
            is_untold = alerts.c.told_at.is_(None) | (alerts.c.told_at < changed_at)
            rows = connection.execute(select(alerts).where(is_untold).order_by(alerts.c.key)).all()
        return [_alert(row) for row in rows]

    def told(self, those: Collection[Alert]) -> None:
        """These were told."""
        over = [alert.key for alert in those if alert.is_over]
        still = [alert.key for alert in those if not alert.is_over]
        with self._database.begin() as connection:
            connection.execute(delete(alerts).where(alerts.c.key.in_(over), alerts.c.over_at.is_not(None)))
            connection.execute(
                update(alerts).where(alerts.c.key.in_(still), alerts.c.over_at.is_(None)).values(told_at=func.now())
            )

    def open(self) -> list[Alert]:
        """What is wrong at present, the worst and then the oldest first."""
        worst_first = case((alerts.c.severity == "critical", 0), else_=1)
        with self._database.single() as connection:
            rows = connection.execute(
                select(alerts).where(alerts.c.over_at.is_(None)).order_by(worst_first, alerts.c.since, alerts.c.key)
            ).all()
        return [_alert(row) for row in rows]


def _row(alert: Alert) -> dict[str, Any]:
    texts = {"key": alert.key, "code": alert.code, "message": alert.message, "next_step": alert.next_step}
    short = {name: storable(text)[:_MAX_CHARS] for name, text in texts.items()}
    return {**short, "cause": alert.cause, "severity": alert.severity}


def _alert(row: Row[Any]) -> Alert:
    return Alert(
        row.key, row.cause, row.severity, row.code, row.message, row.next_step, row.since, row.over_at is not None
    )
