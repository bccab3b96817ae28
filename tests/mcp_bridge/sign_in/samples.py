"""Pages as people may see them, with names from outside that try to be more than text."""

from explorer.catalog import Scope
from explorer.core.toolsets import Toolset
from explorer.providers.base import CredentialField
from mcp_bridge.sign_in.identity import Unavailable
from mcp_bridge.sign_in.pages import ClientShown, Connect, Consent, Problem, Progress, Register, TenantShown

READING = (Scope.METADATA_READ, Scope.QUERY_RUN)
WORKING = (*READING, Scope.RUNS_LAUNCH, Scope.RUNS_CANCEL)
HIDDEN = {"request": "r1", "form": "f1"}

KNOWN = ClientShown("Claude", "claude.ai", "claude.ai", False)
LOCAL = ClientShown("Claude Code", "claude.ai", "this computer", True)
POSING = ClientShown("Claude", None, "evil.example", False, poses_as="Claude of claude.ai")
HOSTILE = ClientShown("<script>alert(1)</script>\"'&\u202egnp.exe" + "x" * 500, None, "<b>evil</b>.example", False)

CONSENT = Consent(
    KNOWN, WORKING, (("www", "CommCare HQ"), ("acme", "Acme's account")), tuple(Toolset), "/oauth/consent", HIDDEN
)
CONSENT_LOCAL = Consent(LOCAL, READING, (("www", "CommCare HQ"),), tuple(Toolset), "/oauth/consent", HIDDEN)
CONSENT_POSING = Consent(POSING, WORKING, (("www", "CommCare HQ"),), tuple(Toolset), "/oauth/consent", HIDDEN)
CONSENT_HOSTILE = Consent(
    HOSTILE, WORKING, (("www", "<i>HQ</i>"),), tuple(Toolset), "/oauth/consent", {"request": '"><script>'}
)
CONNECT = Connect(
    KNOWN,
    "amina@clinic.example",
    "CommCare HQ",
    (TenantShown("Maternal health", "www:maternal", WORKING), TenantShown("Nutrition", "www:nutrition", READING)),
    (
        Unavailable("vaccines-north", "You see a part of this project space only, and its tables hold all of it."),
        Unavailable("malaria-2026", "It is not registered here yet.", "malaria-2026", "register"),
        Unavailable("nutrition-2026", "It is not connected here yet.", "nutrition-2026", "ask"),
    ),
    "/oauth/connect",
    "/oauth/space",
    HIDDEN,
)
CONNECT_NOTHING = Connect(
    KNOWN, "nobody@clinic.example", "CommCare HQ", (), (), "/oauth/connect", "/oauth/space", HIDDEN
)
PROBLEM = Problem(
    "This link has ended",
    "The sign-in was begun more than ten minutes ago, or in another browser.",
    "Go back to the program and connect again.",
    400,
)
REGISTER = Register(
    "malaria-2026",
    (
        CredentialField("username", "User name"),
        CredentialField("api_key", "API key", is_secret=True),
    ),
    ("usual", "daily", "none"),
    "/oauth/register-space",
    HIDDEN,
    error="The server does not accept this key.",
)
PROGRESS = Progress(
    "malaria-2026",
    (("Structure", "done"), ("Raw tables", "running"), ("Tables", "waiting"), ("Models", "waiting")),
    "Cases: 12,400 of about 30,000.",
    False,
    "/oauth/progress",
    HIDDEN,
)
FAILED = Progress("malaria-2026", (("Structure", "failed"),), "The key was refused.", True, "/oauth/progress", HIDDEN)
