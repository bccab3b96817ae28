"""A demo CommCare server: the REST API of CommCare HQ over invented, consistent data, for demos, tests and benchmarks.

`serve_in_thread()` gives a running server to a test; `python -m demo_commcare` runs one. See README.md for endpoints
and switches.
"""

from demo_commcare.app import DemoCommCare
from demo_commcare.server import RunningServer, serve_in_thread
from demo_commcare.world import FOREIGN, MATERNAL, NO_SUBSCRIPTION, NUTRITION

__all__ = ["FOREIGN", "MATERNAL", "NO_SUBSCRIPTION", "NUTRITION", "DemoCommCare", "RunningServer", "serve_in_thread"]
