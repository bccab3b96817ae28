"""The tool that says and sets what agents of a tenant may do with personal data."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from explorer.catalog import PersonalDataPolicy, Scope
from explorer.core.settings import Settings
from explorer.core.toolsets import Toolset
from explorer.personal_data import set_policy
from mcp_bridge.answers.envelope import Answer
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import in_thread
from mcp_bridge.gate.confirmation import Question
from mcp_bridge.gate.tool import Call, TenantArguments, Tool

# The stricter, the later.
_ORDER: tuple[PersonalDataPolicy, ...] = ("mark", "mask", "refuse")


class SetPersonalData(TenantArguments):
    policy: PersonalDataPolicy | None = Field(
        None,
        description="mark: read, and marked; refuse: not read; mask: *** instead of values. Without it: what holds.",
    )
    confirm: str | None = Field(
        None, max_length=200, description="The tenant key, to loosen it where the host cannot ask the user."
    )


@dataclass(frozen=True)
class PersonalDataTools:
    """What agents of a tenant may do with personal data."""

    platform: PlatformDatabase
    settings: Settings

    async def set_personal_data(self, call: Call, args: SetPersonalData) -> Answer:
        tenant = call.own_tenant
        held = call.budget.limits.personal_data or self.settings.personal_data
        if args.policy is None or args.policy == held:
            return Answer({"personal_data": held, "changed": False})
        if _ORDER.index(args.policy) < _ORDER.index(held):
            message = f"Agents will read more of the personal data of {tenant.key}: {args.policy} instead of {held}."
            call.audit["confirmed_by"] = await call.user.confirm(Question(message, tenant.key, held), args.confirm)
        policy, platform = args.policy, self.platform
        now = await in_thread(lambda: set_policy(self.settings, platform.catalog, platform.connections, tenant, policy))
        call.audit |= {"personal_data": now}
        return Answer({"personal_data": now, "changed": True})

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "set_personal_data",
            "Set the policy for personal data",
            "Says or sets what queries of a tenant may do with columns that hold personal data. To loosen it, the user is asked; "
            "where the host cannot ask, you do, and repeat the tenant key in confirm. Which columns are meant: search_metadata "
            "for personal data; to change which are, use set_semantics.",
            SetPersonalData,
            set_personal_data,
            Scope.SCHEMA_MANAGE,
            Toolset.SCHEMA,
            mutates=True,
        ),
    )
