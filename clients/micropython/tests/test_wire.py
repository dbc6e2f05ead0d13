"""The client on MicroPython against scripted frames: bytes on the wire, advice, refusals, silence, resumption. Run by check.sh."""

import json
import time
import unittest

from support import Agent, Script

QUICK = {"token": "qlt_x", "back_off": {"first": 0.05, "most": 0.2}, "client": "a"}


class WireTest(unittest.TestCase):
    def setUp(self):
        self.script = Script()
        self.addCleanup(self.script.__exit__)

    def agent(self, **options):
        agent = Agent(**{**QUICK, "base_url": self.script.url, **options})
        self.addCleanup(agent.__exit__)
        return agent

    def next_error(self, agent, text):
        while text not in (error := agent.wait(event="error")["data"]["error"]):
            pass
        return error

    def test_handshake_has_the_header_fields_and_the_query(self):
        self.agent(base_url=self.script.url + "/prefix/", max_bytes=4096, since="e0:7")
        head = self.script.link().head.decode()
        self.assertTrue(head.startswith("GET /prefix/ws/device/?client=a&since=e0:7&ack=client&max_bytes=4096 HTTP/1.1\r\n"), head)
        for line in ("Authorization: Token qlt_x", "Sec-WebSocket-Protocol: qy-lty.v1", "Sec-WebSocket-Version: 13",
                     "Upgrade: websocket", "Connection: Upgrade"):
            self.assertIn(f"\r\n{line}\r\n", head)
        self.assertNotIn("Origin", head)

    def test_fragments_pings_and_single_bytes(self):
        agent = self.agent()
        link = self.script.link().accept()
        text = json.dumps({"type": "note", "message": "x" * 300, "id": 5}).encode()
        link.frame(text[:100], final=False)
        link.frame(b"42.abc", code=9)
        link.frame(b"", code=0, final=False)
        link.frame(text[100:], code=0)
        agent.wait(handled=5)
        self.assertEqual(link.read(), (10, b"42.abc"))
        self.assertEqual(link.wait("ack")["message"], {"id": 5})
        whole = b"\x81\x7e" + len(text).to_bytes(2, "big") + text.replace(b'"id": 5', b'"id": 6')
        for at in range(len(whole)):
            link.raw.sendall(whole[at : at + 1])
        agent.wait(handled=6)

    def test_message_above_max_bytes_is_left_out_whole_or_in_fragments(self):
        agent = self.agent(max_bytes=1024)
        link = self.script.link().accept()
        link.frame(b"x" * 70_000)
        self.next_error(agent, "above max_bytes")
        for part, code in ((b"x" * 1000, 1), (b"x" * 1000, 0)):
            link.frame(part, code=code, final=False)
        link.frame(b"x", code=0)
        self.next_error(agent, "above max_bytes")
        link.event("note", message="small", id=1)
        agent.wait(handled=1)

    def test_violations_end_the_connection(self):
        agent = self.agent()
        for violate in (lambda link: link.frame(b"masked", mask=True), lambda link: link.frame(b"x", code=0),
                        lambda link: link.frame(b"x" * 126, code=9), lambda link: link.frame(b"not json"),
                        lambda link: link.frame(b"[1]")):
            link = self.script.link().accept()
            violate(link)
            agent.wait(event="disconnected")
        link = self.script.link()
        link.raw.sendall(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: wrong\r\n\r\n")
        self.next_error(agent, "not the handshake")
        self.script.link().raw.sendall(b"HTTP/1.1 101 " + b"x" * 5000)
        self.next_error(agent, "too long")
        self.script.link().accept()
        agent.wait(event="state", data="connected")

    def test_advice_and_retry_after_are_obeyed(self):
        agent = self.agent()
        link = self.script.link().accept()
        link.event("disconnect", code=4008, reason="rate", reconnect=True, retry_after=1.5)
        began = time.monotonic()
        self.assertEqual(agent.wait(event="disconnected")["data"]["code"], 4008)
        link = self.script.link()
        self.assertGreater(time.monotonic() - began, 1.4)
        link.refuse("429 Too Many Requests", "Retry-After: 2")
        began = time.monotonic()
        link = self.script.link().accept()
        self.assertGreater(time.monotonic() - began, 1.9)
        link.event("disconnect", code=4000, reason="for ever", reconnect=False)
        self.assertEqual(agent.wait(event="gone")["data"]["reason"], "for ever")

    def test_close_codes_stay_away_or_come_back(self):
        for code in (4001, 4003, 4104):
            agent = self.agent()
            self.script.link().accept().shut(code, b"no")
            self.assertEqual(agent.wait(event="gone")["data"]["code"], code)
            agent.process.kill()
        self.agent()
        for code in (1001, 1011, 4000, 4002, 4100, 4101, 4102):
            link = self.script.link().accept()
            link.shut(code)
            self.assertEqual(link.read(), (8, code.to_bytes(2, "big")))

    def test_401_counts_as_4001(self):
        agent = self.agent()
        self.script.link().refuse("401 Unauthorized")
        self.assertEqual(agent.wait(event="gone")["data"]["code"], 4001)

    def test_silence_ends_the_connection(self):
        agent = self.agent(heartbeat_seconds=0.4)
        link = self.script.link().accept()
        self.assertEqual(link.wait("ping")["type"], "ping")
        again = self.script.link()  # While the first one stays open.
        self.assertEqual(agent.wait(event="disconnected")["data"]["reason"], "the server is silent")
        again.accept()
        agent.wait(event="connected")

    def test_resumption_sends_epoch_and_id_and_drops_repeats(self):
        agent = self.agent()
        link = self.script.link().accept(last_id=3)
        for number in (4, 5, 4):
            link.event("note", message="x", id=number)
        agent.wait(handled=5)
        link.close()
        link = self.script.link()
        self.assertIn(b"since=e1:5&", link.head)
        link.accept(recovered=True, last_id=3)
        agent.wait(event="recovered")
        for number in (4, 5):
            link.event("note", message="x", id=number)
        # Acknowledged again, since the first acknowledgement may have been lost, and only once they came on this connection.
        while link.wait("ack")["message"]["id"] != 5:
            pass
        link.event("note", message="x", id=6)
        agent.wait(handled=6)
        self.assertEqual(agent.handled(), [4, 5, 6])
        link.close()
        self.script.link().accept(recovered=False, missed=7)
        self.assertEqual(agent.wait(event="missed")["data"]["count"], 7)

    def test_another_epoch_voids_the_ids(self):
        agent = self.agent()
        link = self.script.link().accept()
        link.event("note", message="x", id=90)
        agent.wait(handled=90)
        link.close()
        link = self.script.link().accept(epoch="e2", recovered=False, last_id=1)
        agent.wait(event="missed")
        link.event("note", message="x", id=2)
        agent.wait(handled=2)

    def test_missed_event_on_an_open_connection(self):
        agent = self.agent()
        self.script.link().accept().event("missed", after=41, upto=78)
        missed = agent.wait(event="missed")["data"]
        self.assertEqual((missed["after"], missed["upto"]), (41, 78))

    def test_acknowledgements_are_batched(self):
        agent = self.agent()
        link = self.script.link().accept()
        for number in range(1, 301):
            link.event("note", message="x", id=number)
        acks = []
        while not acks or acks[-1] < 300:
            acks.append(link.wait("ack")["message"]["id"])
        agent.wait(handled=300)
        self.assertEqual(acks, sorted(set(acks)))
        self.assertLessEqual(len(acks), 40)

    def test_auto_sends_no_acknowledgement(self):
        agent = self.agent(ack="auto")
        link = self.script.link()
        self.assertNotIn(b"ack=client", link.head)
        link.accept().event("note", message="x", id=1)
        agent.wait(handled=1)
        time.sleep(0.5)
        agent.do(do="disconnect")
        self.assertEqual(link.read()[0], 8)

    def test_sends_end_with_their_connection_unless_they_retry(self):
        agent = self.agent()
        link = self.script.link().accept()
        agent.wait(done="connect")
        agent.do(do="send", message_type="x")
        agent.do(do="request", message_type="y")
        agent.do(do="request", message_type="z", retry=True)
        for kind in "xyz":
            link.wait(kind)
        link.close()
        self.assertEqual(agent.wait(outcome="sent")["reason"], "disconnected")
        agent.wait(refused="disconnected")
        link = self.script.link().accept()
        link.event("z_response", ref=link.wait("z")["ref"])
        self.assertEqual(self.reply(agent)["type"], "z_response")
        agent.do(do="request", message_type="w", timeout=0.3)
        late = link.wait("w")
        agent.wait(refused="timeout")
        link.event("w_response", ref=late["ref"])
        link.event("note", message="x", id=1)
        agent.wait(handled=1)
        self.assertFalse([line for line in agent.all if line.get("event") == "message"], "a late reply goes to nobody")

    @staticmethod
    def reply(agent):
        while "reply" not in (line := agent.wait()):
            pass
        return line["reply"]

    def test_send_that_was_limited_is_sent_again(self):
        agent = self.agent()
        link = self.script.link().accept()
        agent.wait(done="connect")
        agent.do(do="request", message_type="x")
        ref = link.wait("x")["ref"]
        link.event("error", code="RATE_LIMITED", message="too many", ref=ref)
        link.event("disconnect", code=4008, reason="rate", reconnect=True, retry_after=0.1)
        link = self.script.link().accept()
        self.assertEqual(link.wait("x")["ref"], ref)
        link.event("x_response", ref=ref)
        self.assertEqual(self.reply(agent)["ref"], ref)

    def test_disconnect_waits_two_seconds_for_a_silent_server(self):
        agent = self.agent()
        link = self.script.link().accept()
        agent.wait(done="connect")
        began = time.monotonic()
        agent.do(do="disconnect")
        self.assertEqual(link.read(), (8, b"\x03\xe8"))
        agent.wait(done="disconnect")
        self.assertTrue(1.5 < time.monotonic() - began < 10)

    def test_full_jitter(self):
        agent = self.agent(back_off={"first": 0.2, "most": 1})
        waits = []
        for _ in range(14):
            self.script.link().refuse("503 Service Unavailable")
            waits.append(agent.wait(event="error")["data"]["retry_in"])
        self.assertLessEqual(max(waits), 1)
        self.assertLessEqual(max(waits[:1]), 0.4)
        self.assertGreater(len(set(waits)), 10)
        self.assertLess(min(waits[3:]), 0.7)


if __name__ == "__main__":
    unittest.main()
