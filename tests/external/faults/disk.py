"""A file system with one file, `disk.img`, whose writes fail where the file CONTROL says so: a faulty disk for a loop device.

CONTROL holds ranges of bytes, `from-to`, one a line; none: all is well. What has been written is in BACKING, and nothing else is: a copy
of it is what a power cut leaves. Speaks the kernel's FUSE protocol. usage: disk.py MOUNTPOINT BACKING CONTROL
"""

import ctypes
import errno
import os
import stat
import struct
import sys

# Operations of the protocol (include/uapi/linux/fuse.h).
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT = 1, 2, 3, 4, 14, 15, 16, 17, 18, 20, 25, 26
OPENDIR, RELEASEDIR, FSYNCDIR, ACCESS, INTERRUPT, DESTROY, BATCH_FORGET = 27, 29, 30, 34, 36, 38, 42
DIRECT_IO = 1
ROOT, FILE = 1, 2
MAX_WRITE_BYTES = 1 << 17


class Disk:
    def __init__(self, backing, control):
        self.backing = os.open(backing, os.O_RDWR)
        self.size = os.fstat(self.backing).st_size
        self.control = control
        # The end of the last write that succeeded, and whether the last one failed.
        self.end, self.failing = None, False

    def attributes(self, node):
        kind, size = (stat.S_IFDIR | 0o755, 4096) if node == ROOT else (stat.S_IFREG | 0o600, self.size)
        return struct.pack("<6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, kind, 1, 0, 0, 0, 4096, 0)

    def fails(self, offset, length):
        with open(self.control) as control:
            ranges = [line.split("-") for line in control.read().split()]
        hit = any(offset < int(end) and offset + length > int(start) for start, end in ranges)
        # The kernel splits a request, and its loop driver takes one of which only the first parts are written for a success: a fault must
        # not begin in the middle of one.
        self.failing = hit and (self.failing or offset != self.end)
        return self.failing

    def write(self, body):
        _, offset, length = struct.unpack("<QQI", body[:20])
        if self.fails(offset, length):
            return errno.EIO
        os.pwrite(self.backing, body[40:40 + length], offset)
        self.end = offset + length
        return struct.pack("<II", length, 0)

    def read(self, body):
        _, offset, length = struct.unpack("<QQI", body[:20])
        return os.pread(self.backing, length, offset)

    def begin(self, body):
        _, minor, readahead, flags = struct.unpack("<4I", body[:16])
        # Asynchronous reads, big writes, parallel operations on directories: what the kernel offers of these.
        flags &= 1 << 0 | 1 << 5 | 1 << 22
        return struct.pack("<IIIIHHIIHHI28x", 7, min(minor, 31), readahead, flags, 12, 9, MAX_WRITE_BYTES, 1, 32, 0, 0)

    def answer(self, operation, node, body):
        """The body of the answer, or the number of an error."""
        if operation == INIT:
            return self.begin(body)
        if operation == LOOKUP:
            if body.rstrip(b"\0") != b"disk.img":
                return errno.ENOENT
            return struct.pack("<4QII", FILE, 0, 3600, 3600, 0, 0) + self.attributes(FILE)
        if operation in (GETATTR, SETATTR):
            return struct.pack("<QII", 3600, 0, 0) + self.attributes(node)
        if operation in (OPEN, OPENDIR):
            return struct.pack("<QIi", 0, DIRECT_IO if operation == OPEN else 0, 0)
        if operation == READ:
            return self.read(body)
        if operation == WRITE:
            return self.write(body)
        if operation == STATFS:
            return struct.pack("<5Q3I28x", 1 << 20, 1 << 19, 1 << 19, 100, 100, 4096, 255, 4096)
        if operation in (RELEASE, FSYNC, FLUSH, RELEASEDIR, FSYNCDIR, ACCESS):
            return b""
        return errno.ENOSYS


def mount(point):
    """Mounts the file system; returns the descriptor of its requests."""
    requests = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={requests},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"faulty", point.encode(), b"fuse.faulty", 0, options):
        raise OSError(ctypes.get_errno(), "mount")
    return requests


def main():
    point, backing, control = sys.argv[1:4]
    disk, requests = Disk(backing, control), mount(point)
    while True:
        try:
            message = os.read(requests, 1 << 18)
        except OSError as error:
            if error.errno in (errno.EINTR, errno.ENOENT):
                continue
            return  # unmounted
        _, operation, unique, node = struct.unpack("<IIQQ", message[:24])
        if operation in (FORGET, INTERRUPT, BATCH_FORGET):
            continue
        answer = disk.answer(operation, node, message[40:])
        body, error = (answer, 0) if isinstance(answer, bytes) else (b"", -answer)
        try:
            os.write(requests, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
        except OSError:
            pass  # the request was interrupted
        if operation == DESTROY:
            return


if __name__ == "__main__":
    main()
