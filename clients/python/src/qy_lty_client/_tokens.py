"""The token of a client, which a function may renew."""

from __future__ import annotations

import inspect

from ._options import Token


class TokenSource:
    """Asks for a token once, and again after the server has refused it."""

    def __init__(self, token: Token) -> None:
        self._source = token
        self._current: str | None = None
        self._renewed = False

    async def get(self) -> str:
        """Returns the token; raises what the function raises."""
        if isinstance(self._source, str):
            return self._source
        if self._current is None:
            result = self._source()
            token = await result if inspect.isawaitable(result) else result
            if not isinstance(token, str) or not token:
                raise TypeError("the token function must return a string")
            self._current = token
        return self._current

    def renew(self) -> bool:
        """Notes a refusal; returns whether another token is worth an attempt: once, until one was accepted."""
        if isinstance(self._source, str) or self._renewed:
            self.reset()
            return False
        self._renewed = True
        self._current = None
        return True

    def accepted(self) -> None:
        """Notes that the server accepted the token."""
        self._renewed = False

    def reset(self) -> None:
        """Has the function asked again at the next attempt."""
        self._renewed = False
        self._current = None
