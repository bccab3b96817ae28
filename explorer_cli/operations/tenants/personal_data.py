"""What agents of a tenant may do with personal data: shown, and changed."""

from explorer.catalog import PersonalDataPolicy
from explorer.personal_data import policy_of, set_policy
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import open_store

_MEANS: dict[PersonalDataPolicy, str] = {
    "mark": "agents read columns with personal data, marked as such",
    "refuse": "agents do not read columns with personal data",
    "mask": "agents see that there are columns with personal data, and read none of their values",
}


def personal_data(key: str, policy: PersonalDataPolicy | None, *, reset: bool, as_json: bool) -> int:
    """Set the policy, lift the tenant's own (`reset`), or only show what holds."""
    settings = open_settings()
    with open_store(settings) as store:
        tenant = store.catalog.tenants.get(key)
        if policy is not None or reset:
            held = set_policy(settings, store.catalog, store.connections, tenant, policy)
        else:
            held = policy_of(settings, store.catalog, tenant)
    if as_json:
        answer_json({"tenant": tenant.key, "personal_data": held})
    else:
        say((held, "green"), f": at {tenant.key} {_MEANS[held]}.")
    return 0
