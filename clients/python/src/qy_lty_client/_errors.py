"""Exceptions of this package."""

from __future__ import annotations

#: The close codes after which the client stays away, and the remedy for each.
GONE_MEANINGS: dict[int, str] = {
    4001: "the token is missing, wrong, expired or revoked: get another one",
    4002: "the server requires a primary device: bind one to the user",
    4003: "the user id in the path is not the token's user: fix the URL",
    4104: "the user has as many clients as allowed: delete one that is no longer used, or take the name of an existing one",
}


class QyLtyError(Exception):
    """Base of all exceptions of this package."""


class RequestError(QyLtyError):
    """A request that has no answer.

    `code` is one of the server's codes (`VALIDATION_ERROR`, `RATE_LIMITED`, …), or one of the client's: `timeout`, `disconnected`,
    `full` (the queue), `closed` (the client) and `expired` (the time that the request was allowed to wait).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class GoneError(QyLtyError, ConnectionError):
    """The server refuses this client for good, so that it does not connect again by itself.

    `code` is the close code (an HTTP status 401 counts as 4001), `reason` the server's text, `meaning` the remedy.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        self.meaning = GONE_MEANINGS.get(code, "the server asks this client not to connect again")
        super().__init__(f"{code} {reason}: {self.meaning}")


class RestError(QyLtyError):
    """A REST call that failed.

    `status` is the HTTP status, or 0 where there was no reply; `code` is the server's (`not_found`, …), or `network`; `retry_after`
    is in seconds where the server named a time.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
