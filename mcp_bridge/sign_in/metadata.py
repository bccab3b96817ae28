"""What does the authorization server tell about itself, and the resource about its authorization server?"""

from typing import Any

from explorer.catalog import Scope
from mcp_bridge.sign_in.addresses import Addresses

# Enough for daily work. Changing schemas or semantics is asked for when a call needs it.
DEFAULT_SCOPES = (Scope.METADATA_READ, Scope.QUERY_RUN, Scope.RUNS_LAUNCH, Scope.RUNS_CANCEL)
# Hosts ask for it to get refresh tokens, which everybody gets here.
OFFLINE_ACCESS = "offline_access"
CACHED_S = 300


def server_metadata(addresses: Addresses, *, with_registration: bool) -> dict[str, Any]:
    """RFC 8414."""
    document = {
        "issuer": addresses.issuer,
        "authorization_endpoint": addresses.endpoint("authorize"),
        "token_endpoint": addresses.endpoint("token"),
        "revocation_endpoint": addresses.endpoint("revoke"),
        "scopes_supported": [*Scope, OFFLINE_ACCESS],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256"],
        "client_id_metadata_document_supported": True,
        "authorization_response_iss_parameter_supported": True,
    }
    if with_registration:
        document["registration_endpoint"] = addresses.endpoint("register")
    return document


def resource_metadata(addresses: Addresses) -> dict[str, Any]:
    """RFC 9728. One server: clients take the first in any case."""
    return {
        "resource": addresses.resource,
        "authorization_servers": [addresses.issuer],
        "scopes_supported": list(DEFAULT_SCOPES),
        "bearer_methods_supported": ["header"],
        "resource_name": "Data Explorer",
    }
