"""Which program asks? Published clients, pinned or fetched, and those that registered themselves."""

from mcp_bridge.sign_in.clients.lookup import ClientDirectory, ClientRefused
from mcp_bridge.sign_in.clients.registration import RegistrationRefused, registered

__all__ = ["ClientDirectory", "ClientRefused", "RegistrationRefused", "registered"]
