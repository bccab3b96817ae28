"""dbt's process as a program: `python -m explorer.marts HANDLE`; commands come over the pipe that it inherits as HANDLE."""

import sys
from multiprocessing.connection import Connection

from explorer.marts.process import serve

serve(Connection(int(sys.argv[1])), None)
