"""dbt's events, reduced to those that we use."""

import contextlib
from collections.abc import Iterator
from typing import Any

NODE_FINISHED = "NodeFinished"


@contextlib.contextmanager
def only_finished_nodes() -> Iterator[None]:
    """Ignore dbt's other events, some twenty per node: filling in and writing them takes a quarter of a run."""
    from dbt_common.events.base_types import BaseEvent, ErrorLevel, WarnLevel
    from dbt_common.events.event_manager import EventManager
    from dbt_common.events.event_manager_client import ctx_set_event_manager, get_event_manager

    def is_finished(event: BaseEvent) -> bool:
        return type(event).__name__ == NODE_FINISHED

    def fill_in(self: BaseEvent, *arguments: Any, **named: Any) -> None:
        if is_finished(self) or isinstance(self, (WarnLevel, ErrorLevel)):
            original_init(self, *arguments, **named)
        else:
            self.pb_msg = getattr(self.PROTO_TYPES_MODULE, type(self).__name__)()

    class OnlyFinished(EventManager):
        def fire_event(self, e: Any, *arguments: Any, **named: Any) -> None:
            if is_finished(e) or named.get("force_warn_or_error_handling"):
                super().fire_event(e, *arguments, **named)

    original_init, before = BaseEvent.__init__, get_event_manager()
    ctx_set_event_manager(OnlyFinished())
    BaseEvent.__init__ = fill_in  # type: ignore[method-assign]
    try:
        yield
    finally:
        BaseEvent.__init__ = original_init  # type: ignore[method-assign]
        ctx_set_event_manager(before)
