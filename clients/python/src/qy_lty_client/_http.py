"""HTTP with the standard library: one request, one connection."""

from __future__ import annotations

import http.client
import json
import ssl as ssl_module
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ._backoff import bounded_seconds, parse_retry_after
from ._errors import RestError

#: The longest answer that is read, in bytes; the server's pages end at 1 MiB of payload.
MAX_ANSWER = 16 * 1024 * 1024


@dataclass(frozen=True)
class Call:
    """A request."""

    method: str
    path: str
    body: Any = None
    token: str | None = None
    idempotency_key: str | None = None


class NotSentError(RestError):
    """The connection could not be made, so that the server has not seen the request."""


def exchange(base: str, call: Call, timeout: float, context: ssl_module.SSLContext | None) -> Any:
    """Returns the object of a successful answer; raises `RestError`. Blocks; follows no redirects, and uses no proxy."""
    parts = urlsplit(base)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=timeout)
    try:
        try:
            connection.connect()
        except OSError as error:
            raise NotSentError(0, "network", str(error) or type(error).__name__) from error
        return _exchange(connection, parts.path, call)
    finally:
        connection.close()


def _exchange(connection: http.client.HTTPConnection, prefix: str, call: Call) -> Any:
    headers = {"Accept": "application/json", "Connection": "close"}
    body = None
    if call.body is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(call.body, ensure_ascii=False, allow_nan=False).encode()
    if call.token:
        headers["Authorization"] = f"Token {call.token}"
    if call.idempotency_key:
        headers["Idempotency-Key"] = call.idempotency_key
    try:
        connection.request(call.method, prefix + call.path, body, headers)
        response = connection.getresponse()
        data = response.read(MAX_ANSWER + 1)
        # With a limit, the standard library does not report an answer that was cut off.
        if response.length:
            raise http.client.IncompleteRead(data, response.length)
    except (OSError, http.client.HTTPException) as error:
        raise RestError(0, "network", str(error) or type(error).__name__) from error
    retry_after = parse_retry_after(response.getheader("Retry-After"))
    return _read(response.status, data, retry_after)


def _read(status: int, data: bytes, retry_after: float | None) -> Any:
    if len(data) > MAX_ANSWER:
        raise RestError(status, "too_long", f"the answer has more than {MAX_ANSWER} bytes")
    try:
        reply = json.loads(data)
    except ValueError:
        reply = None  # a proxy's page
    if 200 <= status < 300 and isinstance(reply, dict):
        return reply
    if not isinstance(reply, dict):
        raise RestError(status, "no_json", f"HTTP {status}, and no JSON", retry_after)
    if retry_after is None:
        retry_after = bounded_seconds(reply.get("retry_after"))
    raise RestError(status, str(reply.get("code", "error")), str(reply.get("message", "")), retry_after)
