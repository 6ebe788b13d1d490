"""What the proofs of regress/t share: a chain and a node in a temporary
directory, raw HTTP, an app that authenticates by itself, the frames between
the processes, and a look into /proc.

Nothing here shares code with the product: shapes come from the documents and
from proto/msg.def, cryptography from python3-cryptography and
python3-pycryptodome. Run from the top of the tree; O is the build directory.
"""
import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from Cryptodome.Hash import keccak

O = os.path.abspath(os.environ.get("O", "build/gcc"))
SANITIZED = os.path.basename(O) == "san"
ROOT = os.geteuid() == 0
# Taken out: kmsd knows no such keyword.
CAPSULE = os.environ.pop("KMS_TEST_IDENTITY", "local") == "capsule"
WAIT = 20  # seconds after which what must happen counts as not happening
ROLES = ["kms-net", "kms-keeper", "kms-chain-rpc", "kms-chain-peer"]
# UIDs of the children when started as root and no user is configured
UIDS = dict(zip(ROLES, range(64101, 64105)))


def tool(name):
    return f"{O}/tools/{name}"


def program(name):
    return f"{O}/bin/{name}"


def check(condition, *what):
    if not condition:
        raise AssertionError(" ".join(str(w) for w in what))


def equal(got, expected, what):
    check(got == expected, f"{what}: expected {expected!r}, got {got!r}")


def until(condition, what, seconds=WAIT):
    """The first true value of condition()."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < end, "never:", what)
        time.sleep(0.01)


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run_tests(tests):
    """Run each, or those that the arguments name; exit 1 when one failed."""
    failed = ran = 0
    # Whoever ends the test has the node ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for test in tests:
        if len(sys.argv) > 1 and test.__name__ not in sys.argv[1:]:
            continue
        start = time.monotonic()
        ran += 1
        try:
            test()
            print(f"ok {test.__name__} ({time.monotonic() - start:.1f} s)",
                  flush=True)
        except Exception:
            failed += 1
            print(f"FAILED {test.__name__}", flush=True)
            traceback.print_exc(file=sys.stdout)
    sys.exit(1 if failed or not ran else 0)


# ---- processes ----------------------------------------------------------------

def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid):
    """pid -> name, of the living."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as f:
                state, parent = f.read().rsplit(")", 1)[1].split()[:2]
            with open(f"/proc/{entry}/cmdline", "rb") as f:
                name = f.read().split(b"\0")[0].decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == pid and state not in "ZX":
            found[int(entry)] = name
    return found


def status_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return {k: v.strip() for k, v in (line.split(":", 1) for line in f)}


def rss_kib(pid):
    return int(status_of(pid)["VmRSS"].split()[0])


# ---- chain and node -----------------------------------------------------------

class Chain:
    def __init__(self, directory, host="127.0.0.1"):
        self.log_path = f"{directory}/chain.log"
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                [tool("simchain"), "--listen", f"{host}:0",
                 "--block-time", "1", "regress/tools/state-sample.json"], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL)
        self.url = until(self.find_url, "simchain listens")

    def find_url(self):
        with open(self.log_path) as f:
            found = re.search(r"listening on (http:[^,\s]*)", f.read())
        return found and found.group(1)

    def call(self, method, *params):
        host, port = self.url.split("//")[1].strip("/").split(":")
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method,
                           "params": list(params)}).encode()
        status, _, answer = request(int(port), "POST", "/", body, host=host)
        equal(status, 200, method)
        answer = json.loads(answer)
        check("error" not in answer, method, answer.get("error"))
        return answer["result"]

    def stop(self):
        self.process.kill()
        self.process.wait()


class Capsule:
    """simcapsule with the keys of an identity file, at one address for its
    life, however often it is killed and started again."""

    def __init__(self, directory, identity, prefix=()):
        self.identity, self.prefix = identity, prefix
        self.log_path = f"{directory}/capsule.log"
        self.listen, self.process = "127.0.0.1:0", None
        self.start()

    def start(self):
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "regress/tools/simcapsule",
                 "--listen", self.listen, self.identity], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL)
        self.url, control = until(self.find_urls, "simcapsule listens")
        self.listen = self.url.split("//")[1]
        self.control = int(control.rsplit(":", 1)[1])

    def find_urls(self):
        check(self.process.poll() is None, "simcapsule ended")
        with open(self.log_path) as f:
            found = re.search(r"listening on (\S+), control on (\S+)",
                              f.read())
        return found and found.groups()

    def fault(self, **faults):
        """Exchange its faults: see simcapsule."""
        status, _, _ = request(self.control, "POST", "/",
                               json.dumps(faults).encode())
        equal(status, 200, "the control of simcapsule")

    def calls(self, target=None):
        calls = json.loads(request(self.control, "GET", "/")[2])["calls"]
        return calls if target is None else calls.get(target, 0)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Node:
    """kmsd below a temporary directory. With chain=True one that can become
    ready; else its endpoint is a port where nobody listens. With capsule=True,
    or KMS_TEST_IDENTITY=capsule in the environment, its keys are in a
    simcapsule of its own."""
    host = "127.0.0.1"

    def __init__(self, conf="", chain=False, libexec=None, wrap=(), user=None,
                 start=True, capsule=CAPSULE):
        self.dir = tempfile.mkdtemp(prefix="kms-test.")
        os.chmod(self.dir, 0o755)
        self.chain = self.process = self.capsule = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = f"{self.dir}/node.log"
        self.libexec, self.wrap, self.user = libexec, wrap, None
        self.kmsd = program("kmsd")
        self.seen = set()
        try:
            self.chain = Chain(self.dir) if chain else None
            self.identity = f"{self.dir}/node.json"
            rpc = self.chain.url if chain else "http://127.0.0.1:1"
            self.env = dict(os.environ, KMS_RPC=rpc, KMS_NODE=self.url)
            self.kmsctl("keygen", "--out", self.identity)
            if capsule:
                self.capsule = Capsule(self.dir, self.identity)
            self.write_conf(rpc, conf)
            if user is not None:
                self.give_to(user)
            if chain:
                self.kmsctl("--identity", self.identity, "sim", "register",
                            "--app", "49", "--url", self.url)
            if start:
                self.start()
                self.wait_log("serving on")
            if start and chain:
                self.wait_ready()
        except BaseException:
            self.dump()
            self.close()
            raise

    def write_conf(self, rpc, more):
        self.conf = f"{self.dir}/kmsd.conf"
        rows = {"listen": f"{self.host}:{self.port}",
                "environment": "development",
                "identity": f"local {self.identity}",
                "kms-app-id": "49", "chain-id": "31337",
                "nova-app-registry":
                    "0x5fbdb2315678afecb367f032d93f642f64180aa3",
                "kms-registry": "0xe7f1725e7734ce288f8367e1bb143e90bb3f0512",
                "rpc-url": rpc, "nonce-rate": "0", "request-rate": "0"}
        if self.capsule:
            rows["identity"] = f"capsule {self.capsule.url}"
        rows.update(line.split(" ", 1) for line in more.splitlines() if line)
        with open(self.conf, "w") as f:
            f.writelines(f"{k} {v}\n" for k, v in rows.items())

    def give_to(self, user):
        """kmsd runs as that user, from a copy that the user can reach."""
        for path in self.dir, self.identity:
            os.chown(path, user, user)
        self.libexec = shutil.copytree(f"{O}/bin", f"{self.dir}/bin")
        self.kmsd = f"{self.libexec}/kmsd"
        self.user = user

    def start(self):
        command = [*self.wrap, self.kmsd, "-v", "-f", self.conf]
        if self.libexec:
            command += ["-l", self.libexec]
        extra = {}
        if self.user is not None:
            extra = {"user": self.user, "group": self.user,
                     "extra_groups": []}
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                **extra)

    @property
    def pid(self):
        """Of kmsd itself."""
        if not self.wrap:
            return self.process.pid
        for pid, name in children_of(self.process.pid).items():
            if name == self.kmsd:
                return pid
        return None

    def roles(self):
        """role -> pid, of those that live."""
        found = {name: pid for pid, name in children_of(self.pid).items()}
        self.seen.update(found.values())
        return found

    def all_roles(self):
        return until(lambda: len(self.roles()) == 4 and self.roles(),
                     "four children")

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def wait_log(self, text, count=1, seconds=WAIT):
        def there():
            if self.log().count(text) >= count:
                return True
            check(self.process.poll() is None, "kmsd ended before:", text)
            return False
        until(there, f"log: {text}", seconds)

    def get(self, path):
        """status, headers, JSON or text; None while nobody listens."""
        try:
            status, headers, body = request(self.port, "GET", path,
                                            host=self.host)
        except (OSError, EOFError):
            return None
        if headers["content-type"] == "application/json":
            body = json.loads(body)
        return status, headers, body

    def ready(self):
        got = self.get("/ready")
        return got is not None and got[0] == 200

    def wait_ready(self):
        until(self.ready, "the node is ready")

    def connects(self):
        with contextlib.closing(socket.socket()) as s:
            return s.connect_ex((self.host, self.port)) == 0

    def kmsctl(self, *args):
        done = subprocess.run([program("kmsctl"), *args], env=self.env,
                              text=True, capture_output=True, timeout=WAIT,
                              stdin=subprocess.DEVNULL)
        check(done.returncode == 0, "kmsctl", args, done.stderr)
        return done.stdout

    def new_app(self, app_id, name):
        path = f"{self.dir}/{name}.json"
        self.kmsctl("keygen", "--out", path)
        self.kmsctl("--identity", path, "sim", "register", "--app",
                    str(app_id))
        return App(self, path, app_id)

    def dump(self):
        with contextlib.suppress(OSError):
            lines = [line for line in self.log().splitlines()
                     if " debug: request " not in line]
            print("---- node log", *lines[-60:], sep="\n", flush=True)

    def stop(self, signum=signal.SIGTERM):
        if self.process is None or self.process.poll() is not None:
            return
        if self.wrap and self.pid:
            os.kill(self.pid, signum)
        else:
            self.process.send_signal(signum)
        try:
            self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def close(self):
        if self.process is not None and self.process.poll() is None:
            for pid in self.seen:
                with contextlib.suppress(ProcessLookupError):
                    if alive(pid):
                        os.kill(pid, signal.SIGCONT)
            self.stop()
        if self.chain:
            self.chain.stop()
        if self.capsule:
            self.capsule.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        if kind is not None:
            self.dump()
        self.close()


# ---- HTTP ---------------------------------------------------------------------

class Http:
    """One connection, bytes as they are."""

    def __init__(self, port, timeout=WAIT, host="127.0.0.1"):
        self.sock = socket.create_connection((host, port), timeout)
        self.buffer = b""

    def send(self, data):
        self.sock.sendall(data)

    def more(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise EOFError
        self.buffer += piece

    def answer(self):
        """status, headers (lower-case names; repeated ones fail), body."""
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("ascii").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [ -~]+", lines[0])
        check(match, "status line", lines[0])
        headers = {}
        for line in lines[1:]:
            name, value = line.split(": ", 1)
            check(name.lower() not in headers, "repeated header", name)
            headers[name.lower()] = value
        length = int(headers["content-length"])
        while len(self.buffer) < length:
            self.more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(match.group(1)), headers, body

    def ended(self):
        """Whether the other side closed, with nothing more to say."""
        try:
            return not self.buffer and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def ask(self, method, target, body=None, headers=()):
        self.send(compose(method, target, body, headers))
        return self.answer()

    def close(self):
        self.sock.close()


def compose(method, target, body=None, headers=()):
    head = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1"]
    head += [f"{k}: {v}" for k, v in dict(headers).items()]
    if body is not None:
        head += [f"Content-Length: {len(body)}"]
        if "Content-Type" not in dict(headers):
            head += ["Content-Type: application/json"]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + (body or b"")


def request(port, method, target, body=None, headers=(), host="127.0.0.1"):
    with contextlib.closing(Http(port, host=host)) as http:
        return http.ask(method, target, body, headers)


# ---- an app (PROTOCOL.md sections 1 to 3) -----------------------------------------

N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def keccak256(data):
    return keccak.new(digest_bits=256, data=data).digest()


def sign(private, text):
    """EIP-191, low s, v 0 or 1; the nonce's point comes from the library."""
    message = text.encode()
    digest = int.from_bytes(keccak256(
        b"\x19Ethereum Signed Message:\n%d" % len(message) + message), "big")
    while True:
        k = int.from_bytes(os.urandom(32), "big")
        if not 0 < k < N:
            continue
        point = ec.derive_private_key(
            k, ec.SECP256K1()).public_key().public_numbers()
        if not 0 < point.x < N:
            continue
        s = pow(k, -1, N) * (digest + point.x * private) % N
        v = point.y & 1
        if s > N // 2:
            s, v = N - s, v ^ 1
        return "0x" + (point.x.to_bytes(32, "big") + s.to_bytes(32, "big") +
                       bytes([v])).hex()


def point_of(key):
    return key.public_bytes(serialization.Encoding.X962,
                            serialization.PublicFormat.UncompressedPoint)


class Refused(Exception):
    def __init__(self, status, headers, body):
        super().__init__(f"{status} {body[:300]!r}")
        self.status, self.headers, self.body = status, headers, body


class App:
    """Requests of one registered app instance over kept connections, one a
    thread."""

    def __init__(self, node, identity, app_id):
        with open(identity) as f:
            self.identity = json.load(f)
        self.node, self.app_id, self.path = node, app_id, identity
        self.wallet_key = int(self.identity["wallet_private_key"], 16)
        self.tee_key = ec.derive_private_key(
            int(self.identity["tee_private_key"], 16), ec.SECP384R1())
        with open(node.identity) as f:
            public = json.load(f)
        self.node_wallet = public["wallet"]
        other = serialization.load_der_public_key(
            bytes.fromhex(public["tee_pubkey"]))
        self.shared = self.tee_key.exchange(ec.ECDH(), other)
        self.points = b"".join(sorted(
            [point_of(self.tee_key.public_key()), point_of(other)]))
        self.threads = threading.local()

    def key(self, nonce):
        return HKDF(hashes.SHA256(), 32, self.points + nonce,
                    b"capsule-ecdh-aes256gcm-v1").derive(self.shared)

    def seal(self, members):
        nonce = os.urandom(12)
        data = AESGCM(self.key(nonce)).encrypt(
            nonce, json.dumps(members).encode(), None)
        return json.dumps({"sender_tee_pubkey": self.identity["tee_pubkey"],
                           "nonce": nonce.hex(),
                           "encrypted_data": data.hex()}).encode()

    def open(self, body):
        envelope = json.loads(body)
        nonce = bytes.fromhex(envelope["nonce"])
        return json.loads(AESGCM(self.key(nonce)).decrypt(
            nonce, bytes.fromhex(envelope["encrypted_data"]), None))

    def connection(self):
        http = getattr(self.threads, "http", None)
        if http is None:
            http = self.threads.http = Http(self.node.port,
                                            host=self.node.host)
        return http

    def drop(self):
        http = getattr(self.threads, "http", None)
        if http is not None:
            http.close()
        self.threads.http = None

    def proof(self, nonce=None, now=None):
        """The headers of a v1 proof of possession."""
        if nonce is None:
            status, headers, body = self.connection().ask("GET", "/nonce")
            if status != 200:
                raise Refused(status, headers, body)
            nonce = json.loads(body)["nonce"]
        now = int(time.time()) if now is None else now
        text = f"NovaKMS:AppAuth:{nonce}:{self.node_wallet}:{now}"
        return {"X-App-Signature": sign(self.wallet_key, text),
                "X-App-Nonce": nonce, "X-App-Timestamp": str(now)}

    def raw(self, method, target, body=None):
        try:
            return self.connection().ask(method, target, body, self.proof())
        except (OSError, EOFError, Refused):
            self.drop()
            raise

    def call(self, method, target, members=None):
        body = None if members is None else self.seal(members)
        status, headers, answer = self.raw(method, target, body)
        if status != 200:
            raise Refused(status, headers, answer)
        return self.open(answer)

    def derive(self, path, **more):
        return base64.b64decode(self.call(
            "POST", "/kms/derive", {"path": path, **more})["key"])

    def put(self, key, value, **more):
        return self.call("PUT", "/kms/data", {
            "key": key, "value": base64.b64encode(value).decode(), **more})

    def value(self, key):
        return base64.b64decode(
            self.call("GET", f"/kms/data/{key}")["value"])


# ---- frames (proto/msg.h) -------------------------------------------------------------

def read_messages():
    """name -> number and name -> fields, as proto/msg.def has them."""
    with open("proto/msg.def") as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    numbers, fields = {}, {}
    for row in re.findall(r"^MSG\((.*?)\)$", text, re.S | re.M):
        parts = re.split(r",\s*(?![^()]*\))", row.strip())
        numbers[parts[0]] = int(parts[1])
        fields[parts[0]] = [p for p in parts[6:] if p != "NONE"]
    return numbers, fields


def pack(value):
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return struct.pack(">BQ", 0xCF, value)
    if isinstance(value, str):
        raw = value.encode()
        return struct.pack(">BI", 0xDB, len(raw)) + raw
    if isinstance(value, list):
        return struct.pack(">BH", 0xDC, len(value)) + b"".join(
            map(pack, value))
    return struct.pack(">BI", 0xC6, len(value)) + value


def frame(number, payload, ident=0, generation=0):
    """payload: bytes as they are, or a list of fields."""
    if isinstance(payload, list):
        payload = pack(payload)
    return struct.pack(">IHHIQ", 16 + len(payload), number, 0, generation,
                       ident) + payload


def exactly(sock, length):
    data = b""
    while len(data) < length:
        piece = sock.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def read_frame(sock):
    """type, id, payload"""
    length, kind, _, _, ident = struct.unpack(">IHHIQ", exactly(sock, 20))
    return kind, ident, exactly(sock, length - 16)


def unpack(payload):
    """A flat array in the product's own encoding."""
    at, out = 0, []

    def number(length):
        nonlocal at
        at += length
        return int.from_bytes(payload[at - length:at], "big")

    head = number(1)
    for _ in range(head & 15 if head & 0xF0 == 0x90 else number(2)):
        code = number(1)
        if code < 0x80:
            out.append(code)
        elif code in (0xC2, 0xC3):
            out.append(code == 0xC3)
        elif 0xCC <= code <= 0xCF:
            out.append(number(1 << (code - 0xCC)))
        elif 0xA0 <= code < 0xC0 or 0xD9 <= code <= 0xDB:
            length = code & 31 if code < 0xC0 else number(1 << (code - 0xD9))
            at += length
            out.append(payload[at - length:at].decode())
        else:
            check(0xC4 <= code <= 0xC6, "msgpack code", code)
            length = number(1 << (code - 0xC4))
            at += length
            out.append(payload[at - length:at])
    equal(at, len(payload), "payload length")
    return out


# ---- memory -----------------------------------------------------------------------

def forms(secret):
    """name -> bytes to look for: raw, hex, base64 at every alignment."""
    found = {"raw": secret, "hex": secret.hex().encode(),
             "HEX": secret.hex().upper().encode()}
    for lead in range(3):
        # Characters that also hold bits of a neighbour are left out.
        text = base64.b64encode(b"\0" * lead + secret)
        first = (lead * 8 + 5) // 6
        last = (lead + len(secret)) * 8 // 6
        found[f"base64+{lead}"] = text[first:last]
    return found


# ASan's shadow: what it knows of each 8 bytes, none of their content, and
# terabytes wide.
SHADOW = range(0x7fff7000, 0x10007fff8000) if SANITIZED else range(0)


def maps_of(pid):
    """(start, end, name) of every readable mapping."""
    out = []
    with open(f"/proc/{pid}/maps") as f:
        for line in f:
            part = line.split(None, 5)
            start, end = (int(x, 16) for x in part[0].split("-"))
            if part[1][0] == "r" and "[vvar" not in line and \
                    start not in SHADOW:
                out.append((start, end, part[5].strip() if len(part) > 5
                            else ""))
    return out


def memory_of(pid):
    """(name, bytes) of every mapping that can be read."""
    with open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for start, end, name in maps_of(pid):
            pieces, at = [], start
            while at < end:
                step = min(end - at, 1 << 20)
                try:
                    mem.seek(at)
                    piece = mem.read(step)
                except (OSError, OverflowError):
                    piece = b""
                # What cannot be read (hidden, or a hole) is stepped over.
                pieces.append(piece or b"\0" * min(step, 4096))
                at += len(pieces[-1])
            yield name, b"".join(pieces)


def search(pid, secrets):
    """(secret's name, form, mapping) of all that is found; secrets is
    name -> bytes."""
    wanted = [(name, form, text) for name, secret in secrets.items()
              for form, text in forms(secret).items()]
    found = []
    for where, data in memory_of(pid):
        found += [(name, form, where) for name, form, text in wanted
                  if text in data]
    return found
