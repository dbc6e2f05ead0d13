"""The REST API."""

from __future__ import annotations

import asyncio
import secrets
import ssl as ssl_module
import time
from collections.abc import AsyncIterator
from typing import Any, Literal, cast
from urllib.parse import quote, urlencode

from . import rest_types as types
from ._backoff import BackOff
from ._errors import RestError
from ._http import Call, NotSentError, exchange
from ._urls import split_base

#: Statuses that promise that the same request may succeed later, and was not carried out.
AGAIN = frozenset({429, 503})


class RestClient:
    """Calls of the REST API, each in a thread of its own, so that the event loop goes on.

    A call that is answered with 429 or 503 is repeated after the server's `Retry-After`, and one that the network swallowed where
    repeating it is safe: reads, deletions, and sends, which have an `Idempotency-Key` made once for each call. At most `tries`
    attempts are made, within `retry_seconds`; then `RestError` is raised.
    """

    def __init__(
        self, base_url: str = "http://localhost:8000", token: str | None = None, *, timeout: float = 30.0, tries: int = 6,
        retry_seconds: float = 60.0, back_off: BackOff | None = None, ssl: ssl_module.SSLContext | None = None,
    ) -> None:
        if tries < 1:
            raise ValueError("tries must be at least 1")
        self._base, _ = split_base(base_url)
        self.token = token
        self._timeout = timeout
        self._tries = tries
        self._retry_seconds = retry_seconds
        self._back_off = back_off or BackOff(0.5, 10.0)
        self._ssl = ssl

    async def call(self, method: str, path: str, body: Any = None, *, idempotency_key: str | None = None, safe: bool | None = None) -> Any:
        """Makes any call; returns the whole answer: `status`, `message`, `data`, and `next` where a list has more.

        `safe` says that it may be repeated after a network error; by default all but `POST` and `PATCH` may, and what has a key.
        """
        call = Call(method, path, body, self.token, idempotency_key)
        if safe is None:
            safe = idempotency_key is not None or method not in ("POST", "PATCH")
        end = time.monotonic() + self._retry_seconds
        for attempt in range(self._tries):
            try:
                return await asyncio.to_thread(exchange, self._base, call, self._timeout, self._ssl)
            except RestError as error:
                again = error.status in AGAIN or isinstance(error, NotSentError) or (error.code == "network" and safe)
                delay = self._back_off.delay(attempt, error.retry_after)
                if not again or attempt + 1 == self._tries or time.monotonic() + delay > end:
                    raise
            await asyncio.sleep(delay)
        raise AssertionError("the last attempt returns or raises")

    async def _data(self, method: str, path: str, body: Any = None, **settings: Any) -> Any:
        return (await self.call(method, path, body, **settings)).get("data")

    async def pages(self, path: str, limit: int = 100, **query: Any) -> AsyncIterator[Any]:
        """Yields the entries of a list, page by page."""
        parameters = {"limit": limit, **{name: value for name, value in query.items() if value is not None}}
        while True:
            reply = await self.call("GET", f"{path}?{urlencode(parameters)}")
            for entry in reply["data"]:
                yield entry
            if reply.get("next") is None:
                return
            parameters["after"] = reply["next"]

    # -- accounts

    async def login(self, username: str, password: str) -> types.LoginResponse:
        """Logs in; further calls use the token."""
        data = cast(types.LoginResponse, await self._data("POST", "/api/auth/login", {"username": username, "password": password}))
        token = data.get("token")
        if isinstance(token, str):
            self.token = token
        return data

    async def logout(self) -> None:
        """Revokes the token."""
        await self.call("POST", "/api/auth/logout")
        self.token = None

    async def me(self) -> types.MeResponse:
        """Returns the caller: its user, primary device and token."""
        return cast(types.MeResponse, await self._data("GET", "/api/auth/me"))

    async def ticket(self) -> types.TicketResponse:
        """Returns a ticket, with which a WebSocket is opened once within 30 seconds."""
        return cast(types.TicketResponse, await self._data("POST", "/api/auth/ticket"))

    async def create_token(self, **fields: Any) -> types.CreatedTokenResponse:
        """Makes a token: `label`, `kind` (`user` or `service`), `scopes`, `expires_in`."""
        return cast(types.CreatedTokenResponse, await self._data("POST", "/api/auth/tokens", fields))

    # -- devices

    async def devices(self, user_id: int | None = None) -> list[types.DeviceResponse]:
        """Returns the caller's devices; for administrators all, or those of a user."""
        return [device async for device in self.pages("/api/devices", user_id=user_id)]

    async def device(self, device_id: int) -> types.DeviceResponse:
        """Returns a device."""
        return cast(types.DeviceResponse, await self._data("GET", f"/api/devices/{device_id}"))

    async def create_device(self, name: str, **fields: Any) -> types.DeviceResponse:
        """Makes a device: `serial`, `model`, `primary`, `max_bytes`, and for administrators `user_id`."""
        return cast(types.DeviceResponse, await self._data("POST", "/api/devices", {"name": name, **fields}))

    async def update_device(self, device_id: int, **fields: Any) -> types.DeviceResponse:
        """Changes a device."""
        return cast(types.DeviceResponse, await self._data("PATCH", f"/api/devices/{device_id}", fields))

    async def delete_device(self, device_id: int) -> None:
        """Unbinds a device from the caller, or deletes it."""
        await self.call("DELETE", f"/api/devices/{device_id}")

    async def device_token(self, device_id: int, **fields: Any) -> types.CreatedTokenResponse:
        """Makes a token of a device: `label`, `expires_in`."""
        return cast(types.CreatedTokenResponse, await self._data("POST", f"/api/devices/{device_id}/token", fields))

    async def claim(self, code: str, **fields: Any) -> types.DeviceResponse:
        """Binds the device that shows a pairing code: `name`, `primary`."""
        return cast(types.DeviceResponse, await self._data("POST", "/api/devices/claim", {"code": code, **fields}))

    # -- messages

    async def send_to_user(self, user_id: int, message_type: str, message: Any, **fields: Any) -> types.SentResponse:
        """Sends to a user; `delivery` is `queued` or `live`, `ttl` in seconds. Once it returns, a queued message is on disk."""
        return await self._send(f"user/{user_id}", message_type, message, fields)

    async def send_to_device(self, device_id: int, message_type: str, message: Any, **fields: Any) -> types.SentResponse:
        """Sends to a device; see `send_to_user`."""
        return await self._send(f"device/{device_id}", message_type, message, fields)

    async def broadcast(self, message_type: str, message: Any, **fields: Any) -> types.SentResponse:
        """Sends to every user; see `send_to_user`."""
        return await self._send("broadcast", message_type, message, fields)

    async def _send(self, path: str, message_type: str, message: Any, fields: dict[str, Any]) -> types.SentResponse:
        key = fields.pop("idempotency_key", None) or secrets.token_hex(16)
        body = {"type": message_type, "message": message, **fields}
        return cast(types.SentResponse, await self._data("POST", f"/api/messages/{path}", body, idempotency_key=key))

    async def receipt(self, message_id: int) -> types.ReceiptResponse:
        """Returns the receipt of a message: whether and when it was received."""
        return cast(types.ReceiptResponse, await self._data("GET", f"/api/messages/{message_id}"))

    async def take_back(self, message_id: int) -> None:
        """Takes back a message that nobody has received; else `RestError` with the code `already_received`."""
        await self.call("DELETE", f"/api/messages/{message_id}")

    async def history(self, since: int = 0) -> list[types.MessageResponse]:
        """Returns the retained messages of the caller's mailboxes after an id."""
        return [message async for message in self.pages("/api/messages/history", since=since or None)]

    # -- queues and readers

    async def queue(self, kind: Literal["user", "device"] | None = None, number: int | None = None) -> types.QueueResponse:
        """Returns the size of the queue of a user or device; without arguments, of all (administrators)."""
        return cast(types.QueueResponse, await self._data("GET", _queue_path(kind, number)))

    async def clear_queue(self, kind: Literal["user", "device"] | None = None, number: int | None = None) -> types.ClearedResponse:
        """Clears the queue of a user or device; without arguments, all (administrators)."""
        return cast(types.ClearedResponse, await self._data("DELETE", _queue_path(kind, number)))

    async def clients(self, user_id: int | None = None) -> list[types.ClientResponse]:
        """Returns the caller's readers, with the number of messages that wait for each."""
        return [client async for client in self.pages("/api/clients", limit=1000, user_id=user_id)]

    async def delete_client(self, name: str) -> None:
        """Forgets a reader."""
        await self.call("DELETE", f"/api/clients/{quote(name, safe='')}")


def _queue_path(kind: str | None, number: int | None) -> str:
    if (kind is None) != (number is None) or kind not in (None, "user", "device"):
        raise ValueError("name a user or device with its id, or neither")
    return "/api/queue" if kind is None else f"/api/queue/{kind}/{number}"
