"""Which kinds of upstream systems there are: one folder each, found by looking, so that adding one edits no list.

`base` is what every folder offers as `PROVIDER`. Rooms below never name a provider: whoever puts a process together asks here and
hands the provider in.
"""

import importlib
import pkgutil
from collections.abc import Iterator

from explorer.core.errors import ExplorerError
from explorer.providers.base import Provider
from explorer.registry import Fault, Pipeline


class UnknownProvider(ExplorerError):
    """No folder of `explorer/providers` has this name."""

    code = "unknown_provider"


def provider_names() -> tuple[str, ...]:
    """The names of all providers, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg))


def provider_named(name: str) -> Provider:
    """The provider of this name.

    Raises:
        UnknownProvider: it names those there are.
    """
    if name not in provider_names():
        raise UnknownProvider(
            f"There is no provider {name[:80]!r}.",
            next_step=f"Use one of: {', '.join(provider_names())}.",
            details={"providers": list(provider_names())},
        )
    found: Provider = importlib.import_module(f"{__name__}.{name}").PROVIDER
    return found


def faults_of(pipeline: Pipeline) -> Iterator[Fault]:
    """What a pipeline file says that no provider, or not its own, understands. For `registry.load_pipelines`."""
    if pipeline.provider not in provider_names():
        yield ("provider",), f"there is no provider {pipeline.provider!r}; there are: {', '.join(provider_names())}"
    else:
        yield from provider_named(pipeline.provider).styles.faults(pipeline)
