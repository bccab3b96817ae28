"""How programs and browsers show the guarded Dagster webserver that they may change something."""

TOKEN_HEADER = "X-Explorer-Token"  # noqa: S105 - the header's name
TOKEN_COOKIE = "explorer_token"  # noqa: S105 - the cookie's name
