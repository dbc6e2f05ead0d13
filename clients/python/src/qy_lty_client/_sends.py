"""Messages on their way to the server, and their outcomes."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

from ._store import StoredSend

Frame = dict[str, Any]

#: Frames that carry the `ref` of a question and do not end it.
PARTIAL_TYPES = frozenset({"chat_delta"})
#: Connections on which a send with `retry` is written at most.
MAX_TRIES = 10
#: The number of requests without an answer whose late replies are recognised, and dropped.
MAX_FORGOTTEN = 256


@dataclass(frozen=True)
class Outcome:
    """The end of a send.

    | status | reason | |
    | --- | --- | --- |
    | `answered` | | `reply` is the server's answer |
    | `sent` | `unanswered` | it was written, and no answer came in time |
    | `sent` | `disconnected` | it was written, and the connection ended before the answer: the server may have processed it |
    | `dropped` | `full` | the queue was full |
    | `dropped` | `expired` | its `ttl` ended before it was written |
    | `dropped` | `closed` | the client was closed, or stays away; with `stored` it remains in the store and is sent later |
    | `dropped` | `refused` | the server refused it: `code`, `message`, and its frame as `reply` |
    """

    status: Literal["sent", "answered", "dropped"]
    reason: str | None = None
    reply: Frame | None = None
    code: str | None = None
    message: str | None = None
    stored: bool = False


class Send:
    """A message that was given to the client.

    `outcome` is a future of its `Outcome`; it never raises, and nobody has to wait for it. A `Send` is always true, so that code
    which tests the result of a send goes on.
    """

    def __init__(self, frame: Frame, text: str, *, retry: bool = False, private: bool = False, keep: bool = True) -> None:
        self.frame = frame
        self.text = text
        self.retry = retry
        #: The reply goes to the one who asked only, not to handlers.
        self.private = private
        #: It may be stored.
        self.keep = keep
        self.ttl: float | None = None
        self.answer_timeout: float | None = None
        self.on_part: Callable[[Frame], None] | None = None
        self.tries = 0
        #: A store has it, so that its end is a change of the store.
        self.stored = False
        self.size = len(text.encode())
        self.queued_at = time.monotonic()
        loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[Outcome] = loop.create_future()
        self.written: asyncio.Future[None] = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def ref(self) -> str:
        """The reference that the reply carries."""
        return str(self.frame["ref"])

    @property
    def type(self) -> str:
        """The type of the message."""
        return str(self.frame["type"])

    def settle(self, outcome: Outcome) -> None:
        """Ends the send, once."""
        self.stop_timer()
        if not self.outcome.done():
            self.outcome.set_result(outcome)
        if not self.written.done():
            self.written.set_result(None)

    def start_timer(self, seconds: float | None, callback: Callable[[Send], None]) -> None:
        """Calls back after so many seconds, in place of an earlier timer."""
        self.stop_timer()
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(max(seconds, 0.0), callback, self)

    def stop_timer(self) -> None:
        """Stops the timer, if there is one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def ttl_left(self) -> float | None:
        """Returns the seconds for which it may still wait."""
        return None if self.ttl is None else self.ttl - (time.monotonic() - self.queued_at)

    def stored_form(self) -> StoredSend:
        """Returns the form in which a store keeps it."""
        self.stored = True
        known = ("type", "message", "ref", "timestamp")
        return StoredSend(
            type=self.type, message=self.frame.get("message"), ref=self.ref, timestamp=self.frame["timestamp"],
            extra={name: value for name, value in self.frame.items() if name not in known}, retry=self.retry, ttl=self.ttl_left(),
        )


class Composer:
    """Makes the frames of a client, each with a `ref` of its own."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    def compose(self, message_type: str, message: Any, extra: dict[str, Any]) -> Frame:
        """Returns a frame; `extra` may have `ref` and `target`."""
        frame: Frame = {"type": message_type, "message": message, "timestamp": now(), "ref": f"{self._prefix}-{next(self._numbers)}"}
        frame.update((name, value) for name, value in extra.items() if value is not None)
        return frame


def now() -> str:
    """Returns the time as the server writes it."""
    return datetime.now(timezone.utc).isoformat()


def to_text(frame: Frame) -> str:
    """Returns the JSON of a frame; raises `ValueError` or `TypeError` for what no parser reads: NaN, half of a surrogate pair."""
    text = json.dumps(frame, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text.encode()
    return text


class SendQueue:
    """The sends that wait for a connection, and those that wait for an answer.

    Both are bounded: a send beyond `limit` messages or `limit_bytes` that wait is dropped, the newest first, as the others were
    promised a place; of more than `limit` without an answer, the oldest ends as `sent`.
    """

    def __init__(self, limit: int, limit_bytes: int, on_change: Callable[[], None]) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._waiting: deque[Send] = deque()
        self._unanswered: OrderedDict[str, Send] = OrderedDict()
        self._forgotten: OrderedDict[str, None] = OrderedDict()
        self._on_change = on_change

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, send: Send) -> bool:
        """Takes in a send; returns false where it was dropped since the queue is full."""
        if len(self._waiting) >= self._limit or self._bytes + send.size > self._limit_bytes:
            send.settle(Outcome("dropped", "full"))
            return False
        self._waiting.append(send)
        self._bytes += send.size
        send.start_timer(send.ttl_left(), self._expire)
        return True

    def take(self) -> Send | None:
        """Returns the next send, which now waits for its answer; `None` where nothing waits."""
        if not self._waiting:
            return None
        send = self._waiting.popleft()
        self._bytes -= send.size
        send.tries += 1
        self._unanswered[send.ref] = send
        while len(self._unanswered) > self._limit:
            self._end(next(iter(self._unanswered.values())), Outcome("sent", "unanswered"))
        send.start_timer(send.answer_timeout, self._give_up)
        return send

    def put_back(self, send: Send) -> None:
        """Returns a send that was taken and not written."""
        if self._unanswered.pop(send.ref, None) is send:
            send.tries -= 1
            self._requeue([send])

    def wrote(self, send: Send) -> None:
        """Notes that a send is on its way."""
        if not send.written.done():
            send.written.set_result(None)
        self._changed(send)

    def answer(self, frame: Frame) -> bool:
        """Gives a frame to the send that it answers; returns true where nobody else is to see it."""
        ref = frame.get("ref")
        if not isinstance(ref, str):
            return False
        send = self._unanswered.get(ref)
        if send is None:
            return ref in self._forgotten
        if frame.get("type") in PARTIAL_TYPES:
            send.start_timer(send.answer_timeout, self._give_up)
            if send.on_part is not None:
                send.on_part(frame)
        elif frame.get("type") == "error":
            if frame.get("code") == "RATE_LIMITED":
                self._requeue_from(send)
                return True
            self._end(send, Outcome("dropped", "refused", frame, str(frame.get("code")), str(frame.get("message"))))
        else:
            self._end(send, Outcome("answered", None, frame))
        return send.private

    def forget(self, send: Send) -> None:
        """Drops a request for whose answer nobody waits any longer; a late reply to it is dropped too."""
        if send in self._waiting:
            self._waiting.remove(send)
            self._bytes -= send.size
        if self._unanswered.pop(send.ref, None) is not None and send.private:
            self._forgotten[send.ref] = None
            while len(self._forgotten) > MAX_FORGOTTEN:
                self._forgotten.popitem(last=False)
        send.settle(Outcome("sent" if send.tries else "dropped", "unanswered" if send.tries else "expired"))
        self._changed(send)

    def connection_lost(self) -> None:
        """Ends what was written and not answered, or queues it again where its sender asked for that."""
        again = []
        for send in list(self._unanswered.values()):
            if send.retry and send.tries < MAX_TRIES and not send.outcome.done():
                again.append(self._unanswered.pop(send.ref))
            else:
                self._end(send, Outcome("sent", "disconnected"))
        self._requeue(again)

    def close(self, stored: bool) -> None:
        """Ends everything; with `stored`, what a store keeps says so, and stays here until the store was saved."""
        again = []
        for send in list(self._unanswered.values()):
            if send.retry and stored and send.keep:
                again.append(self._unanswered.pop(send.ref))
            else:
                self._end(send, Outcome("sent", "disconnected"))
        self._requeue(again)
        for send in self._waiting:
            send.settle(Outcome("dropped", "closed", stored=stored and send.keep))
        self._waiting = deque(send for send in self._waiting if stored and send.keep)
        self._bytes = sum(send.size for send in self._waiting)

    def clear(self) -> None:
        """Forgets everything, after the last save."""
        self._waiting.clear()
        self._bytes = 0

    def stored_form(self) -> list[StoredSend]:
        """Returns what a store keeps: everything that waits, and what is to be sent again if its answer does not come."""
        unanswered = (send for send in self._unanswered.values() if send.retry)
        return [send.stored_form() for send in itertools.chain(unanswered, self._waiting) if send.keep]

    def _end(self, send: Send, outcome: Outcome) -> None:
        self._unanswered.pop(send.ref, None)
        send.settle(outcome)
        self._changed(send)

    def _changed(self, send: Send) -> None:
        if send.stored:
            self._on_change()

    def _expire(self, send: Send) -> None:
        if send in self._waiting:
            self._waiting.remove(send)
            self._bytes -= send.size
            send.settle(Outcome("dropped", "expired"))
            self._changed(send)

    def _give_up(self, send: Send) -> None:
        if send.private:
            self.forget(send)
        else:
            self._end(send, Outcome("sent", "unanswered"))

    def _requeue_from(self, first: Send) -> None:
        """Queues a send that the server had no room for again, with all that were written after it.

        The server closes the connection behind such an error, so it processes nothing that follows: nothing is sent twice.
        """
        sends = list(self._unanswered.values())
        again = sends[sends.index(first):]
        for send in again:
            del self._unanswered[send.ref]
            send.tries -= 1
        self._requeue(again)

    def _requeue(self, sends: list[Send]) -> None:
        # They had their place before: the limits are not asked again. At most `limit` sends are without an answer.
        for send in reversed(sends):
            self._waiting.appendleft(send)
            self._bytes += send.size
            send.start_timer(send.ttl_left(), self._expire)
        if sends:
            self._on_change()
