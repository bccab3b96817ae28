"""Which kinds of upstream systems exist? One folder each, found by name, so that a new one edits no list.

`base` declares what every folder offers as `PROVIDER`. Lower rooms never name a provider: the module that puts a process
together looks it up here and hands it in.
"""

import importlib
import pkgutil
from collections.abc import Iterator

from explorer.core.errors import ExplorerError
from explorer.providers.base import Provider
from explorer.registry import Fault, Pipeline


class UnknownProvider(ExplorerError):
    """`explorer/providers` has no folder of this name."""

    code = "unknown_provider"


def provider_names() -> tuple[str, ...]:
    """The names of all providers, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg))


def provider_named(name: str) -> Provider:
    """The provider with this name.

    Raises:
        UnknownProvider: the message names the existing ones.
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
    """Parts of a pipeline file that its provider does not understand, or no provider. For `registry.load_pipelines`."""
    if pipeline.provider not in provider_names():
        yield ("provider",), f"there is no provider {pipeline.provider!r}; there are: {', '.join(provider_names())}"
    else:
        yield from provider_named(pipeline.provider).styles.faults(pipeline)
