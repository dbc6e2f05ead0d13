"""The client on MicroPython against the real server. Run by check.sh."""

import os
import pathlib
import subprocess
import time
import unittest

from support import Agent, real_server

CLIENT = pathlib.Path(__file__).resolve().parent.parent
CHAIN = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


class ServerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server, cls.directory = real_server()
        cls.url = f"http://127.0.0.1:{cls.server.port}/"

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.directory.cleanup()

    def user(self):
        return self.server.user(self.id().rsplit(".", 1)[1].replace("_", "-"))

    def send(self, user, number, kind="note", message="x"):
        return [self.server.send(user, kind, message) for _ in range(number)]

    def queued(self, user):
        return self.server.waiting(user)

    def test_guide_methods_are_answered_and_heap_stays_small(self):
        _, token = self.user()
        with Agent(token=token, base_url=self.url, heartbeat_seconds=1) as agent:
            agent.wait(done="connect")
            agent.do(do="guide")
            for kind in ("chat_response", "weather_response", "sing_response", "dance_response"):
                while agent.wait(event="message")["data"]["type"] != kind:
                    pass
            agent.do(do="disconnect")
            heap = agent.wait(done="disconnect")["heap"]
            print(f"heap in use, with the agent: {heap} bytes")
            # Within it are the client itself, compiled, and the agent.
            self.assertLess(heap, 96 * 1024)

    def test_request_returns_its_reply_and_errors(self):
        _, token = self.user()
        with Agent(token=token, base_url=self.url, client="a") as agent:
            agent.do(do="request", message_type="weather", message={"city": "北京"})
            self.assertEqual(agent.wait()["event"], "state")
            reply = agent.wait(event="connected") and self.line(agent, "reply")
            self.assertEqual(reply["data"]["city"]["name"], "北京")
            agent.do(do="request", message_type="sing", message={"song": 3})
            self.assertEqual(self.line(agent, "refused"), "VALIDATION_ERROR")
            agent.do(do="send", message_type="sing", message={"song": 3})
            outcome = agent.wait(outcome="dropped")
            self.assertEqual((outcome["reason"], outcome["code"]), ("refused", "VALIDATION_ERROR"))
            agent.do(do="send", message_type="dance", message={})
            self.assertEqual(agent.wait(outcome="answered")["reply"]["type"], "dance_response")
            agent.do(do="chat", text="hello")
            self.assertEqual("".join(self.line(agent, "parts")), "收到消息:hello")

    @staticmethod
    def line(agent, name):
        """Returns the value of the first line that has one of this name."""
        for _ in range(100):
            line = agent.wait()
            if name in line:
                return line[name]
        raise AssertionError(agent.all)

    def test_handlers_may_request_while_more_messages_wait_than_the_client_holds(self):
        user, token = self.user()
        ids = self.send(user, 60, "ask")
        with Agent(token=token, base_url=self.url, client="a") as agent:
            last = agent.wait(handled=ids[-1])
            self.assertEqual(last["reply"], "sing_response")
            self.assertEqual(agent.handled(), ids)
            agent.do(do="disconnect")
            agent.wait(done="disconnect")
        self.assertEqual(self.queued(user), 0)

    def test_failing_handler_is_reported_and_passed(self):
        user, token = self.user()
        ids = self.send(user, 1, "fail") + self.send(user, 1)
        with Agent(token=token, base_url=self.url, client="a") as agent:
            agent.wait(handled=ids[1])
            self.assertIn("the handler's own", agent.wait(event="error")["data"]["error"])
            agent.do(do="disconnect")
            agent.wait(done="disconnect")
        self.assertEqual(self.queued(user), 0)

    def test_message_is_acknowledged_after_its_handler_only(self):
        user, token = self.user()
        ids = self.send(user, 1) + self.send(user, 1, "slow", {"seconds": 60})
        with Agent(token=token, base_url=self.url, client="a") as agent:
            agent.wait(handled=ids[0])
            agent.do(do="disconnect")
            agent.wait(done="disconnect")
        self.assertEqual(self.queued(user), 1)

    def test_stored_position_survives_a_restart(self):
        user, token = self.user()
        store = f"{self.directory.name}/position"
        first = self.send(user, 3)
        with Agent(token=token, base_url=self.url, client="a", store=store) as agent:
            agent.wait(handled=first[-1])
            agent.do(do="disconnect")
            agent.wait(done="disconnect")
        second = self.send(user, 3)
        with Agent(token=token, base_url=self.url, client="a", store=store) as agent:
            agent.wait(event="recovered")
            agent.wait(handled=second[-1])
            self.assertEqual(agent.handled(), second)

    def test_killed_server_and_closed_connection_are_returned_to(self):
        user, token = self.user()
        with Agent(token=token, base_url=self.url, client="a", back_off={"first": 0.2, "most": 1}) as agent:
            agent.wait(event="state", data="connected")
            ids = self.send(user, 1)
            agent.wait(handled=ids[-1])
            self.server.kick(user)
            gone = agent.wait(event="disconnected")["data"]
            self.assertEqual((gone["code"], gone["will_reconnect"]), (1001, True))
            agent.wait(event="state", data="connected")
            self.server.kill()
            self.assertTrue(agent.wait(event="disconnected")["data"]["will_reconnect"])
            ids += self.send(user, 3)
            agent.wait(handled=ids[-1])
            self.assertEqual(agent.handled(), ids)

    def test_revoked_token_is_renewed_once_and_then_stays_away(self):
        user, token = self.user()
        with Agent(tokens=["qlt_wrong", token], base_url=self.url, back_off={"first": 0.1, "most": 1}) as agent:
            agent.wait(done="connect")
            self.assertEqual(agent.wait(event="token", data=2)["data"], 2)
            self.server.call("POST", "/api/auth/logout", {}, token)
            self.assertEqual(agent.wait(event="disconnected")["data"]["code"], 4001)
            gone = agent.wait(event="gone")["data"]
            self.assertEqual((gone["code"], gone["meaning"]), (4001, "get another token"))
            agent.do(do="send", message_type="ping")
            self.assertEqual(agent.wait(outcome="dropped")["reason"], "closed")

    def test_too_many_clients_stays_away(self):
        _, token = self.user()
        for number in range(10):
            with Agent(token=token, base_url=self.url, client=f"c{number}") as agent:
                agent.wait(done="connect")
        with Agent(token=token, base_url=self.url, client="eleventh") as agent:
            self.assertEqual(agent.wait(event="gone")["data"]["code"], 4104)
            self.assertEqual(self.line(agent, "refused"), 4104)

    def test_larger_message_than_max_bytes_is_passed_over(self):
        user, token = self.user()
        ids = self.send(user, 1, message="x" * 5000) + self.send(user, 1, message="x" * 900)
        with Agent(token=token, base_url=self.url, client="a", max_bytes=2048) as agent:
            agent.wait(handled=ids[1])
            self.assertEqual(agent.handled(), ids[1:])

    def test_disconnect_within_a_handler(self):
        user, token = self.user()
        ids = self.send(user, 1, "leave")
        with Agent(token=token, base_url=self.url, client="a") as agent:
            self.assertEqual(agent.wait(handled=ids[0])["state"], "closed")
            # The message was not acknowledged, as its handler had not finished; it is known all the same, and not handled again.
            agent.do(do="connect")
            agent.wait(event="recovered")
            more = self.send(user, 1)
            agent.wait(handled=more[0])
            self.assertEqual(agent.handled(), ids + more)

    def test_handlers_run_again_after_a_close_that_cancelled_one(self):
        user, token = self.user()
        ids = self.send(user, 1, "slow", {"seconds": 4})
        with Agent(token=token, base_url=self.url, client="a") as agent:
            agent.wait(done="connect")
            time.sleep(1)  # It is being handled.
            agent.do(do="disconnect")
            agent.wait(done="disconnect")
            agent.do(do="connect")
            more = self.send(user, 1)
            agent.wait(handled=more[0])
            self.assertEqual(agent.handled(), ids + more)

    def test_pairing(self):
        _, token = self.user()
        with Agent(pair=self.url) as agent:
            code = self.line(agent, "code")
            self.server.call("POST", "/api/devices/claim", {"code": code}, token)
            self.assertTrue(self.line(agent, "token").startswith("qlt_"))

    def test_sends_wait_for_the_server_and_in_the_store(self):
        _, token = self.user()
        store = f"{self.directory.name}/sends"
        away = {"token": token, "base_url": "http://127.0.0.1:1", "store": store, "queue_limit": 2}
        with Agent(**away) as agent:
            for _ in range(3):
                agent.do(do="send", message_type="sing", message={})
            self.assertEqual(agent.wait(outcome="dropped")["reason"], "full")
            agent.do(do="disconnect")
            agent.wait(done="disconnect")
        with Agent(**{**away, "base_url": self.url}) as agent:
            for _ in range(2):
                while agent.wait(event="message")["data"]["type"] != "sing_response":
                    pass

    def test_example_switches_the_lamp(self):
        user, token = self.user()
        program = [os.environ.get("MICROPYTHON", "micropython"), "-X", "heapsize=192k", str(CLIENT / "examples/lamp.py"), self.url, token]
        environment = {**os.environ, "MICROPYPATH": f"{CLIENT}:.frozen"}
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=self.directory.name, env=environment) as lamp:
            try:
                self.assertRegex(lamp.stdout.readline(), "^[^ ]+$")  # The weather.
                self.send(user, 1, "lamp", {"on": True})
                self.assertEqual(lamp.stdout.readline(), "the lamp is on\n")
                self.send(user, 1, "lamp", {"on": False})
                self.assertEqual(lamp.stdout.readline(), "the lamp is off\n")
            finally:
                lamp.kill()


class TlsTest(unittest.TestCase):
    def test_certificate_is_checked(self):
        server, directory = real_server()
        path = directory.name
        for name in ("server", "other"):
            subprocess.run([*CHAIN, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                            "-keyout", f"{path}/{name}.key", "-out", f"{path}/{name}.pem"], check=True, capture_output=True)
            subprocess.run(["openssl", "x509", "-in", f"{path}/{name}.pem", "-outform", "DER", "-out", f"{path}/{name}.der"], check=True)
        _, token = server.user("tls")
        server.config = f'[tls]\ncert = "{path}/server.pem"\nkey = "{path}/server.key"\n'
        server.kill()
        try:
            url = f"wss://localhost:{server.port}"
            with Agent(token=token, base_url=url, ca=f"{path}/server.der") as agent:
                agent.wait(done="connect")
                agent.do(do="request", message_type="sing", message={})
                self.assertEqual(ServerTest.line(agent, "reply")["type"], "sing_response")
            with Agent(token=token, base_url=url, ca=f"{path}/other.der") as agent:
                self.assertIn("Ended", agent.wait(event="error")["data"]["error"])
                self.assertFalse(any(line.get("done") for line in agent.all))
        finally:
            server.stop()
            directory.cleanup()


if __name__ == "__main__":
    unittest.main()
