"""How do programs and people get past the guard of the Dagster webserver?"""

# Programs prove by it that they may enter.
TOKEN_HEADER = "X-Explorer-Token"  # noqa: S105 - the header's name
# Here programs ask for a link that opens a browser's session.
UI_LINKS_PATH = "/session/links"
# The webserver as a client of the bridge's authorization server, and where that sends browsers back to.
UI_CLIENT = "dagster-ui"
UI_RETURN_PATH = "/session/signed-in"
