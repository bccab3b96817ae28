"""Which numbers and addresses of the CommCare API the client relies on, and why.

What an operator may want to change is in `explorer.core.settings` instead.
"""

# Global resources: who is calling, and which project spaces they may use. v0.5 is what installations older than 2024 answer.
IDENTITY_ENDPOINTS = ("identity/v1/", "identity/v0.5/")
USER_DOMAINS_ENDPOINTS = ("user_domains/v1/", "user_domains/v0.5/")
# Needs API access and no further permission, and one row is a small answer: the cheapest question a project space answers.
PROBE_ENDPOINTS = ("lookup_table/v1/", "case/v2/")
TOKEN_PATH = "/oauth/token/"  # noqa: S105 - a path

# Access tokens live 15 minutes; one that ends within this time is renewed before it is used.
TOKEN_RENEW_BEFORE_S = 60.0
TOKEN_ATTEMPTS = 3
TOKEN_MAX_LIFETIME_S = 30 * 86_400.0

# 429 without Retry-After is what some resources send; limits of a second are the common ones.
RETRY_AFTER_DEFAULT_S = 1.0
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
# Waiting for allowance on one request in all, as a multiple of the longest single wait.
THROTTLE_PATIENCE = 3.0

# Longest Retry-After believed: the longest window in which HQ counts requests is a week.
RETRY_AFTER_MAX_S = 7 * 86_400.0
# Longest that nobody asks a project space after a 429. Its allowance may have been raised since.
PAUSE_MAX_S = 3600.0
# Each 429 halves the rate down to this part of the ceiling; without another one it is back at the ceiling after the time given.
RATE_MIN_PART = 1 / 32
RATE_RECOVERY_S = 60.0
# How long a process paces itself after the slots in the database could not be asked.
SHARED_SLOTS_RETRY_S = 5.0

CONNECT_TIMEOUT_S = 10.0
# Of EXPLORER_HTTP_TIMEOUT_S, which limits each silence: how long a whole answer may take, however it trickles in.
ANSWER_PATIENCE = 5.0
MAX_CONNECTIONS = 16
# More would let one nested encoding unpack to gigabytes before its size can be seen.
ACCEPTED_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})
# What unpacks to so many times its size is made to fill memory: JSON records, however alike, stay far below. Only looked at once
# the answer is so large that it matters.
BOMB_RATIO = 200
BOMB_BYTES = 16 * 1024 * 1024
# Pages are a quarter of this (loading.pages); only one answer at a time may be larger.
LARGE_ANSWER_BYTES = 32 * 1024 * 1024
# A page walk that has not ended by then is not going to: 100,000 pages of 1,000 are 100 million records.
MAX_PAGES = 100_000
