"""What do the texts of tools call the source systems? By the titles of the pipelines' providers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from explorer.providers.base import Provider
from explorer.registry import Pipeline


@dataclass(frozen=True)
class Wording:
    """`source`: the providers' titles; `tenants`: their word for tenants, in the plural; `pipeline`: the name of the only
    pipeline, None when there are several."""

    source: str
    tenants: str
    pipeline: str | None

    @classmethod
    def of(cls, pipelines: Iterable[Pipeline], provider_named: Callable[[str], Provider]) -> Self:
        """The words of these pipelines' providers."""
        listed = list(pipelines)
        providers = [provider_named(name) for name in sorted({pipeline.provider for pipeline in listed})]
        return cls(
            " and ".join(provider.title for provider in providers),
            " and ".join(f"{provider.title} {provider.tenant_noun}s" for provider in providers),
            listed[0].name if len(listed) == 1 else None,
        )

    def fill(self, text: str) -> str:
        """The text with its `{source}` and `{tenants}` filled in."""
        return text.replace("{source}", self.source).replace("{tenants}", self.tenants)
