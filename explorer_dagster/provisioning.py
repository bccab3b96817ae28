"""The job that makes and drops tenants' schemas and logins: the only one whose worker needs the administrator's login.

Bridges write what they want into the catalog and launch this job. Its runs go one after the other, before those of pipelines.
"""

import json
from uuid import UUID

import dagster as dg

from explorer.contract.names import PROVISIONING, PROVISIONING_OP, PROVISIONING_TAGS
from explorer.core.errors import ExplorerError
from explorer.provisioning import carry_out
from explorer_dagster.resources import Platform


class Asked(dg.Config):
    """`request`: id of the catalog's row."""

    request: str


@dg.op(name=PROVISIONING_OP, description="Does what a row of the catalog's table `provisioning` asks for.")
def provision(context: dg.OpExecutionContext, config: Asked, platform: Platform) -> None:
    try:
        said = carry_out(
            platform.settings, platform.catalog, platform.connections, UUID(config.request), run_id=context.run_id
        )
    except ExplorerError as error:
        raise dg.Failure(f"{error.message} {error.next_step}", allow_retries=False) from error
    context.log.info(said)


# Where workers are on other machines, only those of this job get the administrator's login: from a queue of their own, or from a
# secret that other runs' pods do not have.
_ADMIN_SECRET = {"secret_key_ref": {"name": "explorer-admin", "key": "database-url", "optional": True}}
_OF_ENGINES = {
    "dagster-celery/queue": PROVISIONING,
    "dagster-k8s/config": json.dumps({
        "container_config": {"env": [{"name": "EXPLORER_DATABASE_URL", "value_from": _ADMIN_SECRET}]}
    }),
}  # fmt: skip


@dg.job(
    name=PROVISIONING,
    tags={**PROVISIONING_TAGS, **_OF_ENGINES},
    description="Makes or drops one tenant's schemas and logins, as a bridge has asked.",
)
def provisioning() -> None:
    provision()
