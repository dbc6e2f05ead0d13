"""The position of a client in its messages: repeats, the order of acknowledgements, and the place after which to continue."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass
class Entry:
    """A message that was accepted for handling."""

    id: int
    done: bool = False


class Tracker:
    """Keeps track of the messages with an id.

    Ids rise within a connection, so a message is a repeat where its id is not above the highest accepted one. `handled` is the
    id up to which *every* accepted message is handled: with several handlers at a time, one that finishes early does not move it.

    All collections are bounded by the server's window: at most 1,000 messages are in flight without an acknowledgement.
    """

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.handled = 0
        #: The place from which the first connection started; for `since` until something is handled.
        self.base = 0
        self._accepted = 0
        self._open: deque[Entry] = deque()
        self._unacked: deque[int] = deque()
        self._done_ahead: set[int] = set()
        #: The server has, or was sent on this connection, the acknowledgement of what is handled.
        self._confirmed = False

    def restore(self, epoch: str | None, handled: int) -> None:
        """Continues from a stored position."""
        self.epoch = epoch
        self.handled = self._accepted = handled

    def since(self) -> str | None:
        """Returns the value of the query parameter `since`, or `None` where there is nothing to continue from."""
        last = self.handled or self.base
        return f"{self.epoch}:{last}" if self.epoch and last else None

    def start_connection(self, epoch: str, last_id: int, pending: bool) -> bool:
        """Takes over the epoch of a new connection; returns whether it is another one, so that all ids before are void."""
        self._unacked.clear()
        self._confirmed = not pending
        changed = self.epoch is not None and epoch != self.epoch
        if changed:
            # Entries of the old epoch that are still being handled are no longer in `_open`: finishing them moves nothing.
            self.handled = self._accepted = self.base = 0
            self._open.clear()
            self._done_ahead.clear()
        if changed or self.epoch is None:
            self.base = last_id
        self.epoch = epoch
        return changed

    def accept(self, message_id: int) -> Entry | None:
        """Notes the arrival of a message; returns `None` where it is a repeat."""
        self._unacked.append(message_id)
        if message_id <= self._accepted:
            return None
        self._accepted = message_id
        done = message_id in self._done_ahead
        self._done_ahead.discard(message_id)
        entry = Entry(message_id, done)
        self._open.append(entry)
        if done:
            self._advance()
            return None
        return entry

    def finish(self, entry: Entry) -> None:
        """Notes that a message is handled."""
        entry.done = True
        self._advance()

    def _advance(self) -> None:
        while self._open and self._open[0].done:
            self.handled = self._open.popleft().id

    def ack_due(self) -> bool:
        """Returns whether an acknowledgement would be news to the server."""
        return bool(self._unacked) and self._unacked[0] <= self.handled

    def all_acked(self) -> bool:
        """Returns whether everything that was accepted is handled, and acknowledged on this connection as far as it sent it."""
        return self._confirmed and not self._open and not self._unacked

    def take_ack(self) -> int | None:
        """Returns the id to acknowledge: the highest one *of this connection* up to which everything is handled.

        The server refuses ids that it did not send on the connection, such as those that were acknowledged in vain on an earlier
        one and have expired since.
        """
        last = None
        while self._unacked and self._unacked[0] <= self.handled:
            last = self._unacked.popleft()
        self._confirmed = self._confirmed or last is not None
        return last

    def rewind(self) -> None:
        """Forgets what was accepted and not handled, so that it is accepted when it comes again."""
        self._done_ahead.update(entry.id for entry in self._open if entry.done)
        self._open.clear()
        self._unacked.clear()
        self._accepted = self.handled
