"""The addresses of a server."""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

CLIENT_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_SCHEMES = {"http": ("http", "ws"), "ws": ("http", "ws"), "https": ("https", "wss"), "wss": ("https", "wss")}


def split_base(base_url: str) -> tuple[str, str]:
    """Returns the base URLs for REST and for the WebSocket, without a trailing slash; a path prefix is kept.

    Raises `ValueError` for a URL without a host, of another scheme, or with a user name, query or fragment.
    """
    parts = urlsplit(base_url)
    if parts.scheme.lower() not in _SCHEMES or not parts.hostname:
        raise ValueError(f"base_url {base_url!r} must begin with ws://, wss://, http:// or https:// and a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("base_url must not contain a user name, a query or a fragment")
    _ = parts.port  # raises ValueError where it is no port
    http, ws = _SCHEMES[parts.scheme.lower()]
    path = parts.path.rstrip("/")
    return urlunsplit((http, parts.netloc, path, "", "")), urlunsplit((ws, parts.netloc, path, "", ""))


def socket_url(ws_base: str, parameters: dict[str, str]) -> str:
    """Returns the URL of the WebSocket with these query parameters."""
    query = urlencode(parameters, quote_via=quote)
    return f"{ws_base}/ws/device/" + (f"?{query}" if query else "")
