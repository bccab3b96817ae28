"""`python -m demo_commcare`: run the demo server until interrupted."""

import argparse
import os
import secrets
import sys
from pathlib import Path

from demo_commcare.app import DemoCommCare
from demo_commcare.server import serve


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 after an orderly stop, 1 when the port is not available."""
    parser = argparse.ArgumentParser(
        prog="python -m demo_commcare",
        description="A demo CommCare server with invented data. Secrets come from DEMO_COMMCARE_API_KEY, "
        "DEMO_COMMCARE_CLIENT_SECRET and DEMO_COMMCARE_CONTROL_TOKEN, or are drawn at random; the port file tells them.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument(
        "--cases", type=int, default=None, help="number of cases of demo-maternal-health (default: about 370)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port-file", type=Path, default=None, help="write url, credentials and pid here (mode 0600)")
    options = parser.parse_args(arguments)
    control_token = os.environ.get("DEMO_COMMCARE_CONTROL_TOKEN") or secrets.token_urlsafe(24)
    app = DemoCommCare(
        os.environ.get("DEMO_COMMCARE_API_KEY"),
        control_token,
        options.seed,
        options.cases,
        client_secret=os.environ.get("DEMO_COMMCARE_CLIENT_SECRET"),
    )
    try:
        serve(app, options.host, options.port, options.port_file, control_token)
    except OSError as error:
        print(
            f"demo_commcare cannot listen on {options.host}:{options.port} ({error.strerror}); choose another --port.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
