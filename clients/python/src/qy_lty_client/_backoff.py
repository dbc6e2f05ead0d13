"""Delays between attempts: full jitter, and the advice of the server."""

from __future__ import annotations

import email.utils
import math
import random
import time
from dataclasses import dataclass

#: The longest time for which the advice of a server is followed, in seconds.
MAX_RETRY_AFTER = 3600.0
#: Doublings after which the delay no longer grows, whatever `most` is.
MAX_DOUBLINGS = 30


@dataclass(frozen=True)
class BackOff:
    """The delays between attempts to connect, in seconds.

    The nth delay is random between 0 and `first` * 2^n, and never above `most`. There is no limit of attempts.
    """

    first: float = 1.0
    most: float = 60.0

    def __post_init__(self) -> None:
        if not (0 < self.first <= self.most):
            raise ValueError(f"back_off: first {self.first} must be above 0, and most {self.most} not below it")

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """Returns the delay after so many failures, at least `retry_after`: a client that comes earlier is refused again."""
        delay = random.uniform(0, min(self.most, self.first * 2 ** min(failures, MAX_DOUBLINGS)))
        if retry_after is None:
            return delay
        return max(delay, retry_after + random.uniform(0, min(self.first, retry_after)))


def bounded_seconds(value: object) -> float | None:
    """Returns a time that a server named, between 0 and an hour; `None` for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return min(max(float(value), 0.0), MAX_RETRY_AFTER)


def parse_retry_after(header: str | None) -> float | None:
    """Returns the seconds of a `Retry-After` header, which has a number or a date (RFC 9110, section 10.2.3)."""
    if not header:
        return None
    try:
        return bounded_seconds(float(header))
    except ValueError:
        pass
    try:
        return bounded_seconds(email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
