"""Limits of every request, and why. Limits that an operator may change are in `explorer.core.settings`."""

# An access token that ends within this time is renewed before use.
TOKEN_RENEW_BEFORE_S = 60.0
TOKEN_ATTEMPTS = 3
TOKEN_MAX_LIFETIME_S = 30 * 86_400.0

# A 429 may lack Retry-After; most limits are per second.
RETRY_AFTER_DEFAULT_S = 1.0
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
# Longest total wait for allowance on one request, as a multiple of the longest single wait.
THROTTLE_WAITS = 3.0

# Longest Retry-After accepted: the longest window in which a known server counts requests is a week.
RETRY_AFTER_MAX_S = 7 * 86_400.0
# Longest pause after a 429: the allowance may have been raised since.
PAUSE_MAX_S = 3600.0
# Each 429 halves the rate, down to this part of the ceiling. Without another 429 it is back at the ceiling after this time.
RATE_MIN_PART = 1 / 32
RATE_RECOVERY_S = 60.0
# How long a process uses its own rate limiter after the shared slots in the database failed.
SHARED_SLOTS_RETRY_S = 5.0

CONNECT_TIMEOUT_S = 10.0
# A multiple of EXPLORER_HTTP_TIMEOUT_S, which limits each silence: the longest time for a whole answer.
ANSWER_TIMEOUTS = 5.0
MAX_CONNECTIONS = 16
# With more encodings a nested body could unpack to gigabytes before its size is known.
ACCEPTED_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})
# A body that unpacks to so many times its size is a decompression bomb: JSON stays far below. Only checked for large answers.
BOMB_RATIO = 200
BOMB_BYTES = 16 * 1024 * 1024
# Pages are a quarter of this (`extract.pages`); only one answer at a time may be larger.
LARGE_ANSWER_BYTES = 32 * 1024 * 1024
