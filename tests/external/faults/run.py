"""Tries the server on a disk that lies. usage: run.py BINARY [--trials N] [rot|writes]…"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from server import Api, Server, waiting

MIB = 1 << 20
DISK_BYTES = 400 * MIB


class Load:
    """Programs that send to users, and what was accepted of them: the user and the message by id."""

    def __init__(self, port, admin, users):
        self.port, self.admin, self.users, self.accepted, self.stopping = port, admin, users, {}, threading.Event()
        self.threads = []

    def send(self, api, number, length):
        user = self.users[number % len(self.users)][0]
        message = {"number": number, "text": "x" * length}
        sent = api.send(user, message)
        if sent is not None:
            self.accepted[sent] = (user, message)

    def run(self, senders, numbers, lengths):
        """Sends `numbers`, each sender its share, until told to stop or the server ends."""
        def work(share):
            api = Api(self.port, self.admin)
            with contextlib.suppress(OSError, http.client.HTTPException):
                for number in numbers[share::senders]:
                    if self.stopping.is_set():
                        break
                    self.send(api, number, random.choice(lengths))
        self.threads = [threading.Thread(target=work, args=(share,)) for share in range(senders)]
        for thread in self.threads:
            thread.start()

    def wait(self):
        for thread in self.threads:
            thread.join()

    def missing(self, port):
        """The number of accepted messages that are not delivered. What is delivered must be what was accepted."""
        found = {}
        for user, token in self.users:
            found.update({sent: (user, message) for sent, message in waiting(port, token).items()})
        changed = [sent for sent, what in self.accepted.items() if sent in found and found[sent] != what]
        assert not changed, f"delivered, but not as accepted: {changed[:5]}"
        return sum(sent not in found for sent in self.accepted)


def shell(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout


def unmount(point):
    for _ in range(20):
        if not os.path.ismount(point) or subprocess.run(["umount", point], capture_output=True).returncode == 0:
            return
        time.sleep(0.2)
    subprocess.run(["umount", "-l", point], check=True)


# --- one flipped bit ---


def filled(binary, directory):
    """A store that was restarted once and then killed, and what it has accepted."""
    server = Server(binary, directory, directory / "data")
    assert server.start(), server.log.read_text()[-2000:]
    admin, users = server.prepare(4)
    load = Load(server.port, admin, users)
    load.run(8, range(6000), [20, 120, 120, 200, 400])
    load.wait()
    server.end()
    assert server.start(), server.log.read_text()[-2000:]
    load.run(8, range(6000, 7500), [20, 120, 120, 200, 400])
    load.wait()
    server.end(signal.SIGKILL)
    assert len(load.accepted) == 7500
    return load


def flip(path):
    at = random.randrange(path.stat().st_size)
    with path.open("r+b") as log:
        log.seek(at)
        byte = log.read(1)[0]
        log.seek(at)
        log.write(bytes([byte ^ 1 << random.randrange(8)]))
    return at


def rot_trial(binary, original, load, directory):
    """Returns what happened, and the number of messages that are missing."""
    data = directory / "data"
    shutil.copytree(original, data, ignore=shutil.ignore_patterns("*.sock"))
    at = flip(data / "store" / "db")
    server = Server(binary, directory, data)
    checked = server.command("check", "--json")
    told = checked.returncode != 0
    if not server.start():
        repaired = server.command("check", "--repair")
        assert repaired.returncode == 0, f"a bit at {at}: it does not start, and can't be repaired: {repaired.stderr}"
        assert server.start(), f"a bit at {at}: it does not start after a repair: {server.log.read_text()[-2000:]}"
        told = True
    ready = Api(server.port).call("GET", "/readyz")[0]
    missing = load.missing(server.port)
    server.end()
    assert not missing or told or ready == 503, f"a bit at {at}: {missing} messages are missing, and nobody tells"
    return ("told" if told else "unnoticed, as it should be"), missing


def rot(binary, trials):
    with tempfile.TemporaryDirectory(prefix="qy-lty-rot-") as directory:
        directory = pathlib.Path(directory)
        load = filled(binary, directory)
        for trial in range(trials):
            with tempfile.TemporaryDirectory(prefix="qy-lty-rot-") as copy:
                what, missing = rot_trial(binary, directory / "data", load, pathlib.Path(copy))
            print(f"rot {trial}: {what}, {missing} of {len(load.accepted)} missing", flush=True)


# --- writes that fail ---


class FaultyDisk:
    """An ext4 on a disk whose writes can be made to fail, mounted at `mounted`; after a power cut what is left of it at `left`."""

    def __init__(self, directory):
        self.faulty, self.mounted, self.left = directory / "faulty", directory / "mounted", directory / "left"
        self.backing, self.copy, self.control = directory / "backing", directory / "copy", directory / "control"
        for point in (self.faulty, self.mounted, self.left):
            point.mkdir()
        self.control.write_text("")
        with self.backing.open("wb") as backing:
            backing.truncate(DISK_BYTES)
        program = pathlib.Path(__file__).with_name("disk.py")
        self.process = subprocess.Popen(["python3", program, self.faulty, self.backing, self.control])
        image = self.faulty / "disk.img"
        for _ in range(200):
            if image.exists():
                break
            time.sleep(0.05)
        shell(f"mkfs.ext4 -q -F -E lazy_journal_init=0,lazy_itable_init=0 -b 4096 -J size=8 {image}")
        shell(f"mount -o loop {image} {self.mounted}")
        # The file system itself stays whole: all ranges but the journal and what is at the front.
        found, = re.findall(r"\)\:(\d+)-(\d+)", shell(f"debugfs -R 'stat <8>' {image} 2>/dev/null"))
        start, end = (int(block) * 4096 for block in found)
        self.data = f"{24 * MIB}-{start}\n{end + 4096}-{DISK_BYTES}"

    def fail(self, fails):
        self.control.write_text(self.data if fails else "")

    def cut_power(self):
        # Nothing is written during the copy: half of a checkpoint of the file system's journal would lose what no power cut does.
        self.process.send_signal(signal.SIGSTOP)
        shell(f"cp --sparse=always {self.backing} {self.copy}")
        self.process.send_signal(signal.SIGCONT)
        shell(f"mount -o loop {self.copy} {self.left}")

    def remove(self):
        for point in (self.left, self.mounted, self.faulty):
            unmount(point)
        self.process.wait(30)


def writes_trial(binary, directory):
    """Returns the numbers of messages accepted before and after the fault, and of those that are missing."""
    disk = FaultyDisk(directory)
    server = last = None
    try:
        server = Server(binary, directory, disk.mounted / "data")
        assert server.start(), server.log.read_text()[-2000:]
        admin, users = server.prepare(1)
        load = Load(server.port, admin, users)
        load.run(4, range(1_000_000), [50, 3000, 9000])
        time.sleep(random.uniform(0.3, 1))
        disk.fail(True)
        assert server.process.wait(60) == 1, "it ends with status 1"
        load.stopping.set()
        load.wait()
        disk.fail(False)
        before = len(load.accepted)
        assert server.start(), server.log.read_text()[-2000:]
        api = Api(server.port, admin)
        for number in range(300):
            load.send(api, 2_000_000 + number, 50)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        disk.cut_power()
        server.end(signal.SIGKILL)
        last = Server(binary, directory, disk.left / "data")
        assert last.start(), last.log.read_text()[-2000:]
        return before, len(load.accepted) - before, load.missing(last.port)
    finally:
        for one in (server, last):
            if one and one.process:
                one.end(signal.SIGKILL)
        disk.remove()


def writes(binary, trials):
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse") or not os.path.exists("/dev/loop-control"):
        print("writes: SKIPPED: needs root, /dev/fuse and loop devices")
        return
    for trial in range(trials):
        with tempfile.TemporaryDirectory(prefix="qy-lty-writes-") as directory:
            before, after, missing = writes_trial(binary, pathlib.Path(directory))
        print(f"writes {trial}: {before} accepted before, {after} after, {missing} missing", flush=True)
        assert missing == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("what", nargs="*")
    parser.add_argument("--trials", type=int, default=10)
    chosen = parser.parse_args()
    known = {"rot": rot, "writes": writes}
    for name in chosen.what or known:
        known[name](str(pathlib.Path(chosen.binary).resolve()), chosen.trials)


if __name__ == "__main__":
    main()
