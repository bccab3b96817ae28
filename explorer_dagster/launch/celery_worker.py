"""The app of Celery's workers, which execute whole runs on any number of machines.

    celery -A explorer_dagster.launch.celery_worker worker --queues dagster --concurrency 2 --max-tasks-per-child 1

The worker imports everything once; each run gets a fork of it. A worker that also takes the queue `provisioning` needs the
administrator's login, no other does. `celery_launcher` sends the tasks.
"""

import multiprocessing
from typing import Any

from celery.signals import worker_init, worker_process_init
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task

from explorer.core.files import write_privately
from explorer.core.settings import get_settings
from explorer.marts import stand_by
from explorer_dagster.launch.celery_launcher import app_settings
from explorer_dagster.launch.warm_pool import import_everything

app = make_app(app_settings(get_settings()))  # type: ignore[no-untyped-call]
execute_job = create_execute_job_task(app)


def _import(**_: Any) -> None:
    """In the worker's own process, before it forks."""
    write_privately()
    import_everything(get_settings())


def _stand_by(**_: Any) -> None:
    """In the fork, which has no threads yet."""
    # Celery calls its forks daemons, which may have no children. This one may: dbt's process ends when its pipe does.
    multiprocessing.current_process().daemon = False
    stand_by()


worker_init.connect(_import)
worker_process_init.connect(_stand_by)
