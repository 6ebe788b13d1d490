"""A TCP proxy in the test's process that delays, stalls, resets, throttles
and drops, as the test says while it runs. It stands before one node and
meets everybody who calls it: with `refuse` or `stall` that node cannot be
called, but can call.
"""
import contextlib
import select
import socket
import struct
import threading
import time


class TcpProxy:
    """to: (host, port). Set at any time:
    delay     seconds that every piece is held back
    rate      bytes a second and connection, each way; 0: any
    stall     True: nothing moves, either way, and nothing is closed
    blocked   "in", "out" or None: what flows to the node, or from it, waits
    refuse    True: new connections are reset
    """

    def __init__(self, to, host="127.0.0.1", port=0):
        self.to = to
        self.delay = self.rate = 0
        self.stall = self.refuse = False
        self.blocked = None
        self.connections = 0
        self.lock = threading.Lock()
        self.open = set()
        self.sock = socket.create_server((host, port), backlog=256)
        self.port = self.sock.getsockname()[1]
        self.url = f"http://{host}:{self.port}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.sock.accept()
            except OSError:
                return
            self.connections += 1
            if self.refuse:
                self.abort(client)
                continue
            threading.Thread(target=self.serve, args=(client,),
                             daemon=True).start()

    def serve(self, client):
        try:
            node = socket.create_connection(self.to, 10)
        except OSError:
            self.abort(client)
            return
        through = Through(self, client, node)
        with self.lock:
            self.open.add(through)
        through.run()
        with self.lock:
            self.open.discard(through)

    @staticmethod
    def abort(sock):
        """RST, not FIN."""
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack("ii", 1, 0))
        sock.close()

    def reset(self):
        """End every connection of now, hard; how many there were."""
        with self.lock:
            ended = list(self.open)
        for through in ended:
            through.broken = True
        return len(ended)

    def heal(self):
        self.delay = self.rate = 0
        self.stall = self.refuse = False
        self.blocked = None

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.reset()


class Through:
    """One connection and its twin to the node."""

    def __init__(self, proxy, client, node):
        self.proxy, self.ends, self.broken = proxy, (client, node), False
        for end in self.ends:
            end.settimeout(30)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self):
        client, node = self.ends
        back = threading.Thread(target=self.copy, args=(node, client, "out"),
                                daemon=True)
        back.start()
        self.copy(client, node, "in")
        back.join()
        for end in self.ends:
            TcpProxy.abort(end) if self.broken else end.close()

    def held(self, way):
        return not self.broken and (self.proxy.stall or
                                    self.proxy.blocked == way)

    def pause(self, seconds):
        end = time.monotonic() + seconds
        while not self.broken and time.monotonic() < end:
            time.sleep(min(0.01, seconds))

    def copy(self, source, sink, way):
        proxy = self.proxy
        try:
            while not self.broken:
                # In short steps: what the test says counts at once.
                if self.held(way):
                    time.sleep(0.01)
                    continue
                if not select.select([source], [], [], 0.05)[0]:
                    continue
                if self.held(way):
                    continue
                data = source.recv(max(1, proxy.rate // 20) if proxy.rate
                                   else 65536)
                self.pause(proxy.delay + (len(data) / proxy.rate
                                          if proxy.rate else 0))
                while self.held(way):
                    time.sleep(0.01)
                if self.broken:
                    break
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
        except (OSError, ValueError):
            self.broken = True
