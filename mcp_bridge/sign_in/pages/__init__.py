"""The pages that a person sees while signing in. Plain HTML without a script; every text stands in `en.toml`."""

from mcp_bridge.sign_in.pages.rendering import text
from mcp_bridge.sign_in.pages.views import (
    ClientShown,
    Connect,
    Consent,
    OpenUi,
    Problem,
    Progress,
    Register,
    TenantShown,
    connect,
    consent,
    open_ui,
    problem,
    progress,
    register,
)

__all__ = [
    "ClientShown",
    "Connect",
    "Consent",
    "OpenUi",
    "Problem",
    "Progress",
    "Register",
    "TenantShown",
    "connect",
    "consent",
    "open_ui",
    "problem",
    "progress",
    "register",
    "text",
]
