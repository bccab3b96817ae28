"""Headers by which programs and browsers prove to the guarded Dagster webserver that they may send mutations."""

TOKEN_HEADER = "X-Explorer-Token"  # noqa: S105 - the header's name
TOKEN_COOKIE = "explorer_token"  # noqa: S105 - the cookie's name
