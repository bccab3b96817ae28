"""The product's warm pool with the tiny code location instead of the pipelines: a run starts without imports.

python pool.py
"""

import runpy
from pathlib import Path

from explorer.core.home import warm_pool_socket
from explorer.core.settings import get_settings
from explorer_dagster.launch import fork_server
from explorer_dagster.launch.warm_pool import execute_run, settle

if __name__ == "__main__":
    with fork_server.the_only_one(path := warm_pool_socket(get_settings().home)) as lock:
        runpy.run_path(str(Path(__file__).with_name("definitions.py")))
        settle()
        fork_server.serve(path, execute_run, is_current=lambda: True, lock=lock)
