"""Which limits hold for every request, and why. What an operator may want to change is in `explorer.core.settings` instead."""

# An access token that ends within this time is renewed before it is used.
TOKEN_RENEW_BEFORE_S = 60.0
TOKEN_ATTEMPTS = 3
TOKEN_MAX_LIFETIME_S = 30 * 86_400.0

# A 429 may come without Retry-After; limits of a second are the common ones.
RETRY_AFTER_DEFAULT_S = 1.0
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
# Longest total wait for allowance on one request, as a multiple of the longest single wait.
THROTTLE_WAITS = 3.0

# Longest Retry-After believed: a week is the longest window in which a known server counts requests.
RETRY_AFTER_MAX_S = 7 * 86_400.0
# Longest pause after a 429. The allowance may have been raised since.
PAUSE_MAX_S = 3600.0
# Each 429 halves the rate down to this part of the ceiling; without another one it is back at the ceiling after the time given.
RATE_MIN_PART = 1 / 32
RATE_RECOVERY_S = 60.0
# How long a process paces itself after the slots in the database could not be asked.
SHARED_SLOTS_RETRY_S = 5.0

CONNECT_TIMEOUT_S = 10.0
# A multiple of EXPLORER_HTTP_TIMEOUT_S, which limits each silence: how long a whole answer may take, however it trickles in.
ANSWER_TIMEOUTS = 5.0
MAX_CONNECTIONS = 16
# With more encodings one nested body could unpack to gigabytes before its size can be seen.
ACCEPTED_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})
# A body that unpacks to so many times its size is made to fill memory: JSON records, however alike, stay far below. Only checked
# once the answer is so large that it matters.
BOMB_RATIO = 200
BOMB_BYTES = 16 * 1024 * 1024
# Pages are a quarter of this (`extract.pages`); only one answer at a time may be larger.
LARGE_ANSWER_BYTES = 32 * 1024 * 1024
