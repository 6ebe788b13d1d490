"""A child's place, lent to a test by regress/tools/lend: its channels are the
test's until it becomes the real program. See probe.py.
"""
import array
import contextlib
import os
import shutil
import socket
import stat
import struct
import time

from probe import (O, WAIT, Node, check, equal, frame, read_frame,
                   read_messages, tool, unpack, until)

NUMBER, FIELDS = read_messages()
ROLE_OF = {"net": "kms-net", "keeper": "kms-keeper", "rpc": "kms-chain-rpc",
           "peer": "kms-chain-peer"}


class Guest:
    """One stand-in: its channels are ours until it becomes the real one."""

    def __init__(self, connection):
        self.connection = connection
        credentials = connection.getsockopt(socket.SOL_SOCKET,
                                            socket.SO_PEERCRED, 12)
        self.pid = struct.unpack("3i", credentials)[0]
        data = array.array("i")
        _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(20))
        for level, kind, raw in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                data.frombytes(raw)
        equal(len(data), 5, "descriptors lent")
        os.close(data[0])
        self.control = socket.socket(fileno=data[1])
        # The keeper's own place has its identity there.
        self.keeper = socket.socket(fileno=data[2]) if stat.S_ISSOCK(
            os.fstat(data[2]).st_mode) else None
        for fd in data[3:] if self.keeper else data[2:]:
            os.close(fd)
        self.ends = [end for end in (self.control, self.keeper) if end]
        for end in self.ends:
            end.settimeout(WAIT)
        first = until(self.peek, "the first row of the configuration")
        equal(first[0], "role", "the first row")
        self.role = ROLE_OF[first[1]]

    def peek(self):
        data = self.control.recv(4096, socket.MSG_PEEK)
        if len(data) < 20:
            return None
        length = struct.unpack(">I", data[:4])[0]
        return unpack(data[20:4 + length]) if len(data) >= 4 + length else None

    def become_real(self, directory):
        name = self.role.removesuffix("-rpc").removesuffix("-peer")
        # O_NONBLOCK, which a timeout means, is the successor's as well.
        for end in self.ends:
            end.settimeout(None)
        self.connection.sendall(f"{directory}/{name}".encode())
        self.close()

    def play(self):
        """Be configured and say READY."""
        while True:
            kind, _, payload = read_frame(self.control)
            if kind == NUMBER["KMSDCHILD_START"]:
                break
            if kind == NUMBER["KMSDCHILD_CONFIG"]:
                name, value = unpack(payload)
                if name == "generation":
                    self.generation = int(value)
        self.control.sendall(frame(NUMBER["CHILDKMSD_READY"], [""]))

    def send(self, number, payload, ident=0, generation=None):
        if generation is None:
            generation = self.generation
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.keeper.sendall(frame(number, payload, ident, generation))

    def ended(self, end):
        """Read until the other side closes."""
        limit = time.monotonic() + WAIT
        with contextlib.suppress(ConnectionResetError):
            while end.recv(65536):
                check(time.monotonic() < limit, "the channel goes on")

    def close(self):
        for end in [*self.ends, self.connection]:
            end.close()


class House:
    """A node in which one program is a stand-in."""

    def __init__(self, program, chain=False, start=True):
        self.node = Node(chain=chain, start=False)
        self.guests = []
        place = self.node.libexec = f"{self.node.dir}/libexec"
        os.mkdir(place, 0o755)
        for name in "kms-net", "kms-keeper", "kms-chain":
            shutil.copy(tool("lend") if name == program else f"{O}/bin/{name}",
                        f"{place}/{name}")
        # The stand-in becomes what lies here.
        self.real = f"{self.node.dir}/real"
        os.mkdir(self.real, 0o755)
        shutil.copy(f"{O}/bin/{program}", f"{self.real}/{program}")
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(f"{place}/{program}.sock")
        self.server.listen()
        self.server.settimeout(WAIT)
        if start:
            self.node.start()

    def guest(self):
        guest = Guest(self.server.accept()[0])
        self.guests.append(guest)
        return guest

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        for guest in self.guests:
            guest.close()
        self.server.close()
        self.node.__exit__(kind, *rest)
