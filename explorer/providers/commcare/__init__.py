"""The provider CommCare HQ: everything that the platform knows about it. See README.md for the files."""

from explorer.providers.commcare.provider import CommCare

PROVIDER = CommCare()
