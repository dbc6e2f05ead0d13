"""Pairing: a device without a keyboard gets its token."""

from __future__ import annotations

import asyncio
import inspect
import ssl as ssl_module
from collections.abc import Callable
from typing import Any

from ._errors import RestError
from .rest import RestClient


async def pair(
    *, base_url: str, on_code: Callable[[str], Any], name: str | None = None, serial: str | None = None, model: str | None = None,
    timeout: float | None = None, ssl: ssl_module.SSLContext | None = None,
) -> str:
    """Pairs this device, and returns its token, which is shown once: store it.

    `on_code` (ordinary or async) gets the code to show; its owner enters it on the page, or in an app. A code is good for ten minutes;
    then, or when the server has restarted, `on_code` gets a new one, until `timeout` in seconds, if there is one: `TimeoutError`.
    Network errors are tried again. Raises `RestError` where the server refuses the description.
    """
    described = {key: value for key, value in {"name": name, "serial": serial, "model": model}.items() if value is not None}
    rest = RestClient(base_url, tries=1, ssl=ssl)
    try:
        return await asyncio.wait_for(_pair(rest, described, on_code), timeout)
    except (asyncio.TimeoutError, TimeoutError):
        raise TimeoutError("nobody entered the code in time") from None


async def _pair(rest: RestClient, described: dict[str, Any], on_code: Callable[[str], Any]) -> str:
    while True:
        started = await _persist(rest, described)
        shown = on_code(started["code"])
        if inspect.isawaitable(shown):
            await shown
        interval = float(started["interval"])
        while True:
            await asyncio.sleep(interval)
            try:
                data = await _persist(rest, {"device_code": started["device_code"]})
            except RestError as error:
                if error.code == "pairing_over":
                    break
                raise
            if data["state"] == "paired":
                return str(data["token"])
            interval = max(float(data.get("interval", interval)), 1.0)


async def _persist(rest: RestClient, body: dict[str, Any]) -> Any:
    """Makes the call until the server answers it; polling again is harmless."""
    failures = 0
    while True:
        try:
            return (await rest.call("POST", "/api/devices/pair", body))["data"]
        except RestError as error:
            if error.status not in (0, 408, 429) and error.status < 500:
                raise
            failures += 1
            await asyncio.sleep(max(error.retry_after or 0.0, min(2.0**failures, 30.0) if error.status != 429 else 1.0))
