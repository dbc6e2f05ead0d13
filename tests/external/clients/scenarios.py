"""The scenarios."""

# The limits of the server in the short form, and the time for which a client blocks. The long form has the default limits.
SHORT_LIMITS = {"ping_seconds": 2, "idle_seconds": 5, "write_seconds": 2}
SHORT_BLOCK_SECONDS = 12
LONG_BLOCK_SECONDS = 80

SMALL_BACKLOG = 60
BACKLOG = 900


class Scenarios:
    """The scenarios in the short or the long form."""

    def __init__(self, long):
        self.block_ms = (LONG_BLOCK_SECONDS if long else SHORT_BLOCK_SECONDS) * 1000
        self.limits = {} if long else SHORT_LIMITS

    # In this order: what lasts longest comes first.
    names = ["blocked", "slow", "two", "backlog", "killed", "close"]

    def backlog(self, case):
        """A long backlog with large messages."""
        case.send(BACKLOG, large=20)
        case.stays_until_empty("drain")

    def slow(self, case):
        """200 ms for each message."""
        case.send(SMALL_BACKLOG)
        case.stays_until_empty("slow", pause_ms=200)

    def blocked(self, case):
        """One long pause in the middle, in which the client reads nothing."""
        case.send(200, large=10)
        case.stays_until_empty("block", count=20, pause_ms=self.block_ms)

    def killed(self, case):
        """Killed in the middle, again and again. A library that answers pings before its program has read what came before them
        needs `ack=client`, or the program loses what the library has received."""
        case.send(300, large=5)
        case.returns_until_empty("slow", pause_ms=10, kill_after=40, floor=40, ack=case.client.reads_ahead)
        if not case.problems and case.waiting() > 0:
            case.stays_until_empty("drain")

    def close(self, case):
        """Reads what waits and closes at once. The last message stays in doubt, as its ping may be unread."""
        case.send(SMALL_BACKLOG, large=3)
        case.returns_until_empty("close", floor=1)
        if not case.problems and case.waiting() > 0:
            case.stays_until_empty("drain")

    def two(self, case):
        """Two connections at the same time, one of them slower. Each receives everything that is sent while it is connected."""
        case.send(100)
        connections = [case.connect("drain"), case.connect("slow", pause_ms=10)]
        for connection in connections:
            if not connection.wait_until(lambda: connection.pending is not None, 0) or connection.pending is None:
                case.fail("not connected")
        sent = set(case.send(BACKLOG - 100)) if not case.problems else set()
        for connection in connections:
            connection.wait_until(lambda: sent <= set(connection.ids), 0)
        case.settle(1)
        seen = set()
        for name, connection in zip(("fast", "slower"), connections):
            cut = connection.ended
            errors = connection.kill()
            case.seen = set()
            case.judge(connection)
            seen |= case.seen
            if cut:
                case.fail(f"the {name} one: {case.describe_cut(connection.code, len(connection.ids), errors)}")
            elif not sent <= case.seen:
                case.fail(f"the {name} one lacks {len(sent - case.seen)}")
        case.seen = seen

    def oversized(self, case):
        """A message above the client's own limit, which closes with 1009; the server passes it over in the end."""
        case.send(10)
        case.optional.update(case.send(1, large=1, size=case.client.oversized_bytes))
        case.send(10)
        case.returns_until_empty("drain")
