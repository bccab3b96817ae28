"""CommCare HQ as a provider: everything that the platform knows of it. README.md tells what is where.

Importing this is cheap; the client, discovery and the table plan are imported by the methods that use them.
"""

from explorer.providers.commcare.provider import CommCare

PROVIDER = CommCare()
