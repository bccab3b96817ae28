"""CommCare HQ as a provider: everything that the platform knows of it. README.md tells what is where."""

from explorer.providers.commcare.provider import CommCare

PROVIDER = CommCare()
