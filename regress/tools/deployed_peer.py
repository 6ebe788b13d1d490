"""A node of the deployed kind, in the test's own process: it knows the
deployed types of POST /sync and nothing of our extensions, and differs from
our nodes where deployed ones do (doc/PROTOCOL.md section 7). Its store and
its secret lie open to the test.

    with DeployedPeer(chain_url, identity) as peer:   # after its registration
        peer.bootstrap(wallet)      # the secret, from a node that has it
        peer.pull(wallet)           # its snapshot
        peer.put(100, "k", b"v")
        peer.push(wallet)           # what is new, as a delta
"""
import base64
import contextlib
import http.client
import json
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import wire
from probe import Refused, check, equal, keccak256

KMS_APP = 49
SKEW_MS = 15000
COUNTER_MAX = 2**53
TYPES = ("delta", "snapshot_request", "master_secret_request")


def now_ms():
    return time.time_ns() // 1000000


# ---- the store (section 7, merging) -----------------------------------------

def compare(a, b):
    """Of clocks: "same", "before", "after" or "concurrent"."""
    less = any(n > a.get(m, 0) for m, n in b.items())
    more = any(n > b.get(m, 0) for m, n in a.items())
    return {(False, False): "same", (True, False): "before",
            (False, True): "after"}.get((less, more), "concurrent")


def order(record):
    """What decides between concurrent records."""
    return record["updated_at_ms"], bytes.fromhex(record["value"] or "")


class Store:
    """app -> key -> record, as records are on the wire."""

    def __init__(self, member):
        self.member, self.apps = member, {}
        self.lock = threading.RLock()

    def record(self, app_id, key):
        return self.apps.get(app_id, {}).get(key)

    def acceptable(self, app_id, record, secret):
        try:
            clock, value = record["version"], record["value"]
            check(isinstance(record["key"], str) and isinstance(clock, dict))
            check(all(isinstance(n, int) and 0 <= n <= COUNTER_MAX
                      for n in clock.values()))
            check(len(clock) <= 4096)
            check(record["updated_at_ms"] <= now_ms() + SKEW_MS)
            check(record["tombstone"] == (value is None))
            if value is not None:
                wire.at_rest_open(wire.data_key(secret, app_id),
                                  bytes.fromhex(value))
            return True
        except Exception:
            return False

    def merge(self, app_id, record, secret):
        """"merged", "skipped" or "rejected"."""
        if not self.acceptable(app_id, record, secret):
            return "rejected"
        with self.lock:
            app = self.apps.setdefault(app_id, {})
            ours = app.get(record["key"])
            relation = compare(ours["version"], record["version"]) \
                if ours else "before"
            if relation == "before":
                app[record["key"]] = dict(record)
                return "merged"
            if relation == "after" or order(ours) == order(record) and \
                    relation == "same":
                return "skipped"
            winner = max(ours, record, key=order)
            clock = {m: max(ours["version"].get(m, 0),
                            record["version"].get(m, 0))
                     for m in {**ours["version"], **record["version"]}}
            app[record["key"]] = dict(winner, version=clock)
            return "merged" if winner is record else "skipped"

    def write(self, app_id, key, stored, ttl_ms=0):
        """stored: None deletes. The clock's own member counts up by one and
        the time is plainly now, as deployed nodes have it."""
        with self.lock:
            app = self.apps.setdefault(app_id, {})
            clock = dict(app.get(key, {}).get("version", {}))
            clock[self.member] = clock.get(self.member, 0) + 1
            app[key] = {"key": key,
                        "value": stored.hex() if stored is not None else None,
                        "version": clock, "updated_at_ms": now_ms(),
                        "tombstone": stored is None, "ttl_ms": ttl_ms}

    def live(self, app_id):
        """key -> stored bytes, of those that anybody may see."""
        with self.lock:
            return {key: bytes.fromhex(r["value"])
                    for key, r in self.apps.get(app_id, {}).items()
                    if not r["tombstone"] and
                    (not r["ttl_ms"] or
                     r["updated_at_ms"] + r["ttl_ms"] > now_ms())}

    def snapshot(self):
        with self.lock:
            return {str(app_id): [dict(r) for r in app.values()]
                    for app_id, app in self.apps.items()}


# ---- HTTP -------------------------------------------------------------------

class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args):
        super().__init__(*args)
        self.open = set()

    def process_request(self, request, address):
        self.open.add(request)
        super().process_request(request, address)

    def shutdown_request(self, request):
        self.open.discard(request)
        super().shutdown_request(request)

    def end(self):
        """As a process ends: its connections with it."""
        self.shutdown()
        self.server_close()
        for request in list(self.open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_):
        pass  # the other side is gone


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30

    @property
    def peer(self):
        return self.server.peer

    def log_message(self, *_):
        pass

    def reply(self, status, members, headers=(), close=False):
        status, headers, body = self.peer.on_reply(
            self, status, dict(headers), json.dumps(members).encode())
        if status is None:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if close:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status, message, close=False):
        code = {400: "bad_request", 403: "unauthorized", 404: "not_found",
                413: "too_large", 503: "service_unavailable"}[status]
        self.reply(status, {"code": code, "message": message}, close=close)

    def do_GET(self):
        with contextlib.suppress(OSError):
            if self.path == "/health":
                self.reply(200, {"status": "healthy"})
            elif self.path == "/status":
                self.reply(200, self.peer.status())
            elif self.path == "/nonce":
                self.reply(200, {"nonce": self.peer.new_nonce()})
            else:
                self.refuse(404, "no such route")

    def handle_expect_100(self):
        """The body is asked for by whoever reads it, below."""
        return True

    def do_POST(self):
        with contextlib.suppress(OSError):
            length = int(self.headers.get("Content-Length", 0))
            if length > self.peer.body_limit:
                # Unread: the connection ends hard on what is being sent.
                self.refuse(413, "the body is too large", close=True)
                return
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.send_response_only(100)
                self.end_headers()
            body = self.rfile.read(length)
            if self.path != "/sync":
                self.refuse(404, "no such route")
                return
            try:
                answer, headers = self.peer.serve(self.headers, body)
            except Refusal as refusal:
                self.refuse(refusal.status, str(refusal))
                return
            self.reply(200, answer, headers)


class Refusal(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def need(condition, status, message):
    if not condition:
        raise Refusal(status, message)


# ---- the node ---------------------------------------------------------------

class DeployedPeer:
    """identity: the members of an identity file. extended: answers to a delta
    have all counts, or `merged` alone. old_key: master_secret_request carries
    an X-Sync-Signature under this key. secret: of the master, if it has one.
    """

    def __init__(self, chain_url, identity, host="127.0.0.1", port=0,
                 extended=True, old_key=None, body_limit=2000000, secret=None):
        self.identity, self.wallet = identity, identity["wallet"].lower()
        self.wallet_key = int(identity["wallet_private_key"], 16)
        self.tee_key = wire.p384(identity["tee_private_key"])
        self.registry = wire.Registry(chain_url)
        self.extended, self.old_key = extended, old_key
        self.body_limit, self.secret = body_limit, secret
        self.synced_from = None
        self.store = Store(wire.checksum_wallet(self.wallet))
        self.pushed = {}  # wallet -> records it has taken, by app and key
        self.seen = []  # (sender's wallet, inner message) of all that came
        self.refused = []  # (status, reason) of what was not served
        self.nonces, self.pairs = {}, {}
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.loop = None
        # For tests of what a node believes: both may return something else.
        self.on_answer = lambda wallet, asked, answer: answer
        self.on_reply = lambda handler, status, headers, body: (
            status, headers, body)
        self.server = Server((host, port), Handler)
        self.server.peer = self
        self.port = self.server.server_address[1]
        self.url = f"http://{host}:{self.port}"
        threading.Thread(target=self.server.serve_forever,
                         daemon=True).start()

    def close(self):
        self.stopping.set()
        if self.loop:
            self.loop.join()
        self.server.end()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- what anybody may ask

    def status(self):
        return {"node": {"tee_wallet": self.wallet,
                         "tee_pubkey": self.identity["tee_pubkey"],
                         "node_url": self.url, "is_operator": True,
                         "service_available": self.secret is not None,
                         "unavailable_reason": "" if self.secret else
                         "waiting for the master secret",
                         "master_secret": {
                             "state": "synced" if self.secret else
                             "uninitialized", "synced_from": self.synced_from},
                         "master_secret_initialized": self.secret is not None},
                "cluster": {"kms_app_id": KMS_APP,
                            "registry_address": self.registry.kms,
                            "total_instances": len(
                                self.registry.wallets(KMS_APP))},
                "data_store": {"namespaces": len(self.store.apps),
                               "total_keys": sum(
                                   map(len, self.store.apps.values())),
                               "total_bytes": 0}}

    def new_nonce(self):
        nonce = base64.b64encode(os.urandom(16)).decode()
        with self.lock:
            self.nonces[nonce] = time.monotonic() + 120
        return nonce

    # -- /sync, served

    def authenticate(self, headers):
        """The sender's instance and its signature (section 2)."""
        signature, nonce, stamp = (headers.get("X-KMS-" + name, "") for name
                                   in ("Signature", "Nonce", "Timestamp"))
        need(signature and nonce and stamp.isdigit(), 403, "no proof")
        need(abs(int(stamp) - time.time()) <= 120, 403, "timestamp")
        with self.lock:
            expiry = self.nonces.pop(nonce, 0)
        need(expiry > time.monotonic(), 403, "nonce")
        try:
            wallet = wire.recover(
                signature, f"NovaKMS:Auth:{nonce}:{self.wallet}:{stamp}")
        except ValueError:
            raise Refusal(403, "signature") from None
        claimed = headers.get("X-KMS-Wallet", wallet).lower()
        need(claimed.removeprefix("0x") == wallet[2:], 403, "wallet")
        instance = self.registry.instance(wallet)
        need(instance["instance_id"] and instance["app_id"] == KMS_APP and
             instance["active"] and instance["zk_verified"], 403,
             "not a peer")
        return instance, signature

    def pair(self, key):
        with self.lock:
            if key not in self.pairs:
                self.pairs[key] = wire.Pair(self.tee_key,
                                            self.identity["tee_pubkey"],
                                            wire.spki(key))
            return self.pairs[key]

    def serve(self, headers, body):
        try:
            return self.serve_checked(headers, body)
        except Refusal as refusal:
            self.refused.append((refusal.status, str(refusal)))
            raise

    def serve_checked(self, headers, body):
        instance, signature = self.authenticate(headers)
        try:
            envelope = json.loads(body)
            sender = envelope["sender_tee_pubkey"].lower().removeprefix("0x")
        except (ValueError, KeyError, AttributeError):
            raise Refusal(400, "not an envelope") from None
        need(sender == instance["tee_pubkey"], 403, "another teePubkey")
        pair = self.pair(sender)
        try:
            inner = json.loads(pair.open(envelope))
        except Exception:
            raise Refusal(400, "cannot be opened") from None
        kind = inner.get("type")
        self.seen.append((instance["wallet"], inner))
        need(kind in TYPES, 403, f"unknown type {kind}")
        need(inner.get("sender_wallet", instance["wallet"]).lower() ==
             instance["wallet"], 403, "sender_wallet")
        need(self.secret, 503, "no master secret")
        if kind != "master_secret_request":
            expected = wire.sync_signature(wire.sync_key(self.secret),
                                           envelope)
            need(headers.get("X-Sync-Signature") == expected, 403, "HMAC")
        answer = self.on_answer(instance["wallet"], inner,
                                getattr(self, "answer_" + kind)(inner))
        mine = wire.sign(self.wallet_key,
                         f"NovaKMS:Response:{signature}:{self.wallet}")
        return pair.seal(json.dumps(answer).encode()), {
            "X-KMS-Peer-Signature": mine}

    def take(self, data):
        counts = {"merged": 0, "skipped": 0, "rejected": 0}
        for app_id, records in data.items():
            for record in records:
                counts[self.store.merge(int(app_id), record,
                                        self.secret)] += 1
        return counts

    def answer_delta(self, inner):
        counts = self.take(inner["data"])
        if not self.extended:
            return {"status": "ok", "merged": counts["merged"]}
        return {"status": "ok", "total": sum(counts.values()), **counts,
                "skip_reasons": {}}

    def answer_snapshot_request(self, _):
        return {"status": "ok", "data": self.store.snapshot()}

    def answer_master_secret_request(self, inner):
        try:
            other = wire.spki(inner["ecdh_pubkey"])
        except (KeyError, ValueError):
            raise Refusal(400, "ecdh_pubkey") from None
        return {"status": "ok", "sealed": wire.seal_secret(self.secret, other)}

    # -- /sync, asked

    def post(self, instance, envelope, more=()):
        """Bytes as they are sent; (status, headers, body) and our
        signature."""
        host = instance["url"].split("//")[1].strip("/")
        http_ = http.client.HTTPConnection(host, timeout=20)
        try:
            http_.request("GET", "/nonce")
            answer = http_.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise Refused(answer.status, dict(answer.headers), body)
            nonce, stamp = json.loads(body)["nonce"], int(time.time())
            signature = wire.sign(
                self.wallet_key,
                f"NovaKMS:Auth:{nonce}:{instance['wallet']}:{stamp}")
            headers = {"X-KMS-Signature": signature, "X-KMS-Nonce": nonce,
                       "X-KMS-Timestamp": str(stamp),
                       "X-KMS-Wallet": self.store.member,
                       "Content-Type": "application/json"}
            headers.update(more)
            http_.request("POST", "/sync", json.dumps(envelope), headers)
            answer = http_.getresponse()
            return (answer.status, answer.headers, answer.read()), signature
        finally:
            http_.close()

    def ask(self, wallet, members, key=None, sealed=None):
        """The answer to an inner message; Refused. key: of the HMAC, if not
        the sync key; sealed: the envelope, if not one of these members."""
        instance = self.registry.instance(wallet)
        pair = self.pair(instance["tee_pubkey"])
        inner = {"sender_wallet": self.wallet, **members}
        envelope = sealed or pair.seal(json.dumps(inner).encode())
        if key is None:
            key = self.old_key if inner["type"] == "master_secret_request" \
                else wire.sync_key(self.secret)
        more = {"X-Sync-Signature": wire.sync_signature(key, envelope)} \
            if key else {}
        (status, headers, body), mine = self.post(instance, envelope, more)
        if status != 200:
            raise Refused(status, dict(headers), body)
        equal(wire.recover(headers["X-KMS-Peer-Signature"],
                           f"NovaKMS:Response:{mine}:{wallet}"), wallet,
              "who signed the answer")
        answer = json.loads(body)
        equal(answer["sender_tee_pubkey"], instance["tee_pubkey"],
              "the answer's key")
        return json.loads(pair.open(answer))

    def peers(self):
        return [w for w in self.registry.wallets(KMS_APP) if w != self.wallet]

    def bootstrap(self, wallet):
        """Take the secret from that node: section 8, step 5."""
        own = wire.ec.generate_private_key(wire.ec.SECP384R1())
        answer = self.ask(wallet, {
            "type": "master_secret_request",
            "ecdh_pubkey": wire.spki_hex(own.public_key())})
        equal(answer["status"], "ok", "master_secret_request")
        secret = wire.open_secret(answer["sealed"], own)
        equal(keccak256(secret), self.registry.secret_hash(),
              "the secret's hash")
        self.secret = secret
        self.synced_from = self.registry.instance(wallet)["url"]

    def pull(self, wallet):
        answer = self.ask(wallet, {"type": "snapshot_request"})
        equal(answer["status"], "ok", "snapshot_request")
        counts = self.take(answer["data"])
        equal(counts["rejected"], 0, "records of a snapshot")
        return counts

    def push(self, wallet):
        """What that node has not taken yet; the answer, None without any."""
        taken = self.pushed.setdefault(wallet, {})
        data = {app: [r for r in records if taken.get((app, r["key"])) != r]
                for app, records in self.store.snapshot().items()}
        data = {app: records for app, records in data.items() if records}
        if not data:
            return None
        answer = self.ask(wallet, {"type": "delta", "data": data})
        equal(answer["status"], "ok", "delta")
        taken.update(((app, r["key"]), r) for app, records in data.items()
                     for r in records)
        return answer

    def run(self, interval=0.5):
        """From now on push to every peer, every so often."""
        def tick():
            while not self.stopping.wait(interval):
                for wallet in self.peers():
                    with contextlib.suppress(OSError, Refused, ValueError,
                                             http.client.HTTPException,
                                             AssertionError):
                        self.push(wallet)
        self.loop = threading.Thread(target=tick, daemon=True)
        self.loop.start()

    # -- as its apps would

    def put(self, app_id, key, value, ttl_ms=0):
        self.store.write(app_id, key, wire.at_rest_seal(
            wire.data_key(self.secret, app_id), value), ttl_ms)

    def delete(self, app_id, key):
        self.store.write(app_id, key, None)

    def listing(self, app_id):
        """key -> value"""
        key = wire.data_key(self.secret, app_id)
        return {name: wire.at_rest_open(key, stored)
                for name, stored in self.store.live(app_id).items()}
