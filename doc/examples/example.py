#!/usr/bin/python3
"""An app that keeps its keys in the KMS, in plain Python: Debian's
python3-cryptography, and python3-pycryptodome for Keccak.

doc/guide-apps.md explains the steps; section numbers are those of
doc/PROTOCOL.md. Exit status: 0 done, 1 wrong use, 3 refused, 4 try again
later, 5 an answer or a node that cannot be believed, 6 evicted.
"""
import base64
import hashlib
import http.client
import json
import os
import re
import sys
import time
import urllib.parse

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from Cryptodome.Hash import keccak

# Without the environment: where the simulation is.
NODE = os.environ.get("KMS_NODE", "http://127.0.0.1:4000")
RPC = os.environ.get("KMS_RPC", "http://127.0.0.1:18545")
IDENTITY = os.environ.get("KMS_IDENTITY", "kms-identity.json")
APPS = os.environ.get("KMS_NOVA_APP_REGISTRY",
                      "0x5fbdb2315678afecb367f032d93f642f64180aa3")
KMS = os.environ.get("KMS_REGISTRY",
                     "0xe7f1725e7734ce288f8367e1bb143e90bb3f0512")

ANSWER_MAX = 16 << 20
NONCE_REUSE = 100  # seconds; it lives 120
ATTEMPTS = 3       # of a call that is answered with "later"
PATIENCE = 10      # seconds, however long Retry-After says


class Failure(Exception):
    """What ends the program, with its exit status."""
    status = 1


class NotFound(Failure):     # the node's signed word: there is none
    status = 2


class Refused(Failure):      # the node's signed word: another 4xx
    status = 3


class Unavailable(Failure):
    status = 4

    def __init__(self, what, after=1):
        super().__init__(what)
        self.after = after


class Unverified(Failure):   # nothing of it may be used
    status = 5


class Evicted(Failure):      # the node's signed word: it was there
    status = 6


# ---- wallets (section 1) -------------------------------------------------------
# A signature is checked by recovering the address that made it. All numbers
# below are public, so plain integers will do; the private key is OpenSSL's.

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
     0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8)


def keccak256(data):
    return keccak.new(digest_bits=256, data=data).digest()


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if a[1] != b[1]:
            return None
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiply(k, point):
    total = None
    while k:
        if k & 1:
            total = add(total, point)
        point = add(point, point)
        k >>= 1
    return total


def address(x, y):
    return "0x" + keccak256(x.to_bytes(32, "big") +
                            y.to_bytes(32, "big"))[12:].hex()


def eip191(text):
    message = text.encode()
    return keccak256(b"\x19Ethereum Signed Message:\n%d" % len(message) +
                     message)


def signer(text, signature):
    """The wallet that signed the text, None if the signature is not one."""
    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
    except ValueError:
        return None
    if len(raw) != 65 or raw[64] not in (0, 1, 27, 28):
        return None
    r = int.from_bytes(raw[:32], "big")
    s = int.from_bytes(raw[32:64], "big")
    square = (r**3 + 7) % P
    y = pow(square, (P + 1) // 4, P)
    if not 0 < r < N or not 0 < s <= N // 2 or y * y % P != square:
        return None
    if y & 1 != (raw[64] & 1 if raw[64] < 2 else (raw[64] - 27)):
        y = P - y
    inverse = pow(r, -1, N)
    z = int.from_bytes(eip191(text), "big")
    point = add(multiply(s * inverse % N, (r, y)),
                multiply(-z * inverse % N, G))
    return point and address(*point)


def sign(key, wallet, text):
    r, s = utils.decode_dss_signature(key.sign(
        eip191(text), ec.ECDSA(utils.Prehashed(hashes.SHA256()))))
    s = min(s, N - s)
    for v in 0, 1:
        signature = "0x" + (r.to_bytes(32, "big") + s.to_bytes(32, "big") +
                            bytes([v])).hex()
        if signer(text, signature) == wallet:
            return signature
    raise Failure("the identity's wallet is not that of its key")


# ---- P-384 (section 3) ---------------------------------------------------------

SPKI = bytes.fromhex("3076301006072a8648ce3d020106052b81040022036200")


def p384_public(data):
    """A key as DER SubjectPublicKeyInfo or as its 97-byte point."""
    point = data[len(SPKI):] if data.startswith(SPKI) else data
    if len(point) != 97 or point[0] != 4:
        raise Unverified("not an uncompressed P-384 key")
    try:
        return point, ec.EllipticCurvePublicKey.from_encoded_point(
            ec.SECP384R1(), point)
    except ValueError:
        raise Unverified("not a point on P-384") from None


# ---- HTTP ----------------------------------------------------------------------

def ask(base, method, target, body=None, headers={}):
    """status, a function that gives a header, body. Follows no redirect."""
    url = urllib.parse.urlsplit(base)
    kind = {"http": http.client.HTTPConnection,
            "https": http.client.HTTPSConnection}[url.scheme]
    connection = kind(url.hostname, url.port, timeout=30)
    try:
        connection.request(method, url.path.rstrip("/") + target, body,
                           dict(headers))
        answer = connection.getresponse()
        data = answer.read(ANSWER_MAX + 1)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"no answer ({type(error).__name__})") from None
    finally:
        connection.close()
    if len(data) > ANSWER_MAX:
        raise Unverified("an answer without end")
    # A repeated header comes joined with commas, and is no signature then.
    return answer.status, answer.getheader, data


def json_object(data):
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Unverified("not a JSON object")
    return value


def canonical(value):
    """The text that is hashed: members sorted, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"),
                      ensure_ascii=False).encode()


# ---- the chain (section 6) -----------------------------------------------------

def rpc(method, *params):
    call = {"jsonrpc": "2.0", "id": 1, "method": method,
            "params": list(params)}
    status, _, data = ask(RPC, "POST", "/", json.dumps(call),
                          {"Content-Type": "application/json"})
    try:
        return json.loads(data)["result"]
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"the chain does not answer {method} "
                          f"(HTTP {status})") from None


class Words:
    """What a contract returned: 32-byte words from an offset on."""

    def __init__(self, data, base=0):
        self.data, self.base = data, base

    def bytes(self, at, length):
        if at + length > len(self.data):
            raise Unverified("the registry's answer is cut short")
        return self.data[at:at + length]

    def number(self, index):
        return int.from_bytes(self.bytes(self.base + 32 * index, 32), "big")

    def text(self, index):
        """What the word at index points to: a length, and so many bytes."""
        at = self.base + self.number(index)
        return self.bytes(at + 32, int.from_bytes(self.bytes(at, 32), "big"))

    def struct(self):
        return Words(self.data, self.number(0))


def view(contract, block, function, *arguments):
    data = keccak256(function.encode())[:4] + b"".join(
        a.to_bytes(32, "big") for a in arguments)
    result = rpc("eth_call", {"to": contract, "data": "0x" + data.hex()},
                 block)
    try:
        return Words(bytes.fromhex(result.removeprefix("0x")))
    except (ValueError, AttributeError):
        raise Unverified("the registry's answer is not hex") from None


def origin(url):
    url = urllib.parse.urlsplit(url)
    return url.scheme, url.hostname, url.port or {"https": 443}.get(
        url.scheme, 80), url.path.rstrip("/")


class Node:
    """The node as the registry has it. What it says of itself is used for
    nothing but to ask the registry."""

    def __init__(self):
        status, _, data = ask(NODE, "GET", "/status")
        if status != 200:
            raise Unavailable(f"GET /status was answered with HTTP {status}")
        try:
            claim = json_object(data)["node"]["tee_wallet"].lower()
        except (KeyError, TypeError, AttributeError):
            claim = ""
        if not re.fullmatch("0x[0-9a-f]{40}", claim):
            raise Unverified("/status names no wallet")
        # All of it at one block.
        block = rpc("eth_blockNumber")
        it = view(APPS, block, "getInstanceByWallet(address)",
                  int(claim, 16)).struct()
        self.instance, self.app, version = (it.number(i) for i in range(3))
        self.wallet = "0x%040x" % it.number(6)
        self.point, self.key = p384_public(it.text(5))
        if not self.instance or self.wallet != claim:
            raise Unverified(f"{claim} is not registered on this chain")
        if self.app != view(KMS, block, "kmsAppId()").number(0):
            raise Unverified(f"{claim} belongs to another app than the KMS")
        if it.number(8) != 0 or it.number(7) != 1:
            raise Unverified(f"{claim} is not ACTIVE and verified")
        app = view(APPS, block, "getApp(uint256)", self.app).struct()
        if app.number(0) != self.app or app.number(7) != 0:
            raise Unverified("the KMS's app is not ACTIVE")
        row = view(APPS, block, "getVersion(uint256,uint256)", self.app,
                   version).struct()
        if not version or row.number(0) != version or row.number(7) > 1:
            raise Unverified("the node runs a version that is revoked")
        # What is reached over loopback has another URL for everybody else.
        if origin(NODE)[1] not in ("127.0.0.1", "::1", "localhost") and \
                origin(it.text(4).decode("ascii", "replace")) != origin(NODE):
            raise Unverified("the node is registered under another URL")


# ---- calls (sections 2, 3 and 5) -----------------------------------------------

class Client:
    """One app instance and one node. Make a new one every few minutes: the
    registry is asked once, and a node can be revoked."""

    def __init__(self):
        with open(IDENTITY) as file:
            identity = json.load(file)
        self.wallet = identity["wallet"]
        self.wallet_key = ec.derive_private_key(
            int(identity["wallet_private_key"], 16), ec.SECP256K1())
        tee_key = ec.derive_private_key(
            int(identity["tee_private_key"], 16), ec.SECP384R1())
        self.tee_pubkey = identity["tee_pubkey"]
        self.node = Node()
        # The same for every message between these two keys.
        self.shared = tee_key.exchange(ec.ECDH(), self.node.key)
        own, _ = p384_public(bytes.fromhex(self.tee_pubkey))
        self.points = min(own, self.node.point) + max(own, self.node.point)
        self.next_nonce = None, 0

    def cipher(self, nonce):
        return AESGCM(HKDF(hashes.SHA256(), 32, self.points + nonce,
                           b"capsule-ecdh-aes256gcm-v1").derive(self.shared))

    def seal(self, members):
        nonce = os.urandom(12)
        data = self.cipher(nonce).encrypt(nonce, canonical(members), None)
        return canonical({"sender_tee_pubkey": self.tee_pubkey,
                          "nonce": nonce.hex(), "encrypted_data": data.hex()})

    def open(self, envelope):
        try:
            nonce = bytes.fromhex(envelope["nonce"])
            data = bytes.fromhex(envelope["encrypted_data"])
            return json_object(self.cipher(nonce).decrypt(nonce, data, None))
        except (ValueError, InvalidTag):
            raise Unverified("the envelope cannot be opened") from None

    def take_nonce(self):
        """A nonce, and whether it came with an earlier answer."""
        nonce, since = self.next_nonce
        self.next_nonce = None, 0
        if nonce and time.monotonic() - since < NONCE_REUSE:
            return nonce, True
        status, header, data = ask(NODE, "GET", "/nonce")
        if status != 200:
            raise Unavailable(f"GET /nonce was answered with HTTP {status}",
                              header("Retry-After"))
        nonce = json_object(data).get("nonce")
        if not isinstance(nonce, str) or not 16 <= len(nonce) <= 64:
            raise Unverified("not a nonce")
        return nonce, False

    def exchange(self, method, target, body):
        """Sign and send: what was signed with, and what came back."""
        nonce, reused = self.take_nonce()
        now = str(int(time.time()))
        content = hashlib.sha256(body or b"").hexdigest()
        signature = sign(self.wallet_key, self.wallet, ":".join(
            ["NovaKMS:AppAuth:v2", nonce, self.node.wallet, now, method,
             target, content]))
        headers = {"X-App-Auth": "v2", "X-App-Signature": signature,
                   "X-App-Nonce": nonce, "X-App-Timestamp": now,
                   "X-App-Wallet": self.wallet,
                   "X-App-Content-SHA256": content}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return (reused, signature, *ask(NODE, method, target, body, headers))

    def believe(self, signature, status, header, data):
        """The JSON of an answer that the node signed for this request."""
        v1 = header("X-KMS-Response-Signature")
        v2 = header("X-KMS-Response-Signature-V2")
        if v1 is None and v2 is None and (status == 429 or status >= 500):
            # Needs no proof: whoever can forge this can also cut the line.
            raise Unavailable(f"HTTP {status}", header("Retry-After"))
        if v1 is None or v2 is None:
            raise Unverified(f"HTTP {status} without the node's signatures")
        answer = json_object(data)
        members = ["encrypted_data", "nonce", "sender_tee_pubkey"] \
            if status < 300 else ["code", "message"]
        if sorted(answer) != members or not all(
                isinstance(answer[m], str) for m in members):
            raise Unverified("neither an envelope nor an error")
        content = hashlib.sha256(canonical(answer)).hexdigest()
        node = self.node.wallet
        if signer(f"NovaKMS:Response:{signature}:{node}", v1) != node or \
                signer(f"NovaKMS:Response:v2:{signature}:{node}:{status}:"
                       f"{content}", v2) != node:
            raise Unverified("the signatures are not the node's for this")
        self.next_nonce = header("X-KMS-Next-Nonce"), time.monotonic()
        return answer

    def attempt(self, method, target, members):
        body = None if members is None else self.seal(members)
        reused, *rest = self.exchange(method, target, body)
        if reused and rest[1] == 403 and \
                rest[2]("X-KMS-Response-Signature-V2") is None:
            # A nonce of before is lost when the node starts anew: once more.
            _, *rest = self.exchange(method, target, body)
        answer = self.believe(*rest)
        status, header = rest[1], rest[2]
        if status < 300:
            try:
                key = bytes.fromhex(answer["sender_tee_pubkey"])
            except ValueError:
                key = b""
            if p384_public(key)[0] != self.node.point:
                raise Unverified("an envelope of another key")
            return self.open(answer)
        what = f"HTTP {status}: {answer['message']}"
        if status == 404:
            raise NotFound(what)
        if status == 410:
            raise Evicted(what)
        if status == 429 or status >= 500:
            raise Unavailable(what, header("Retry-After"))
        raise Refused(what)

    def call(self, method, target, members=None):
        for left in reversed(range(ATTEMPTS)):
            try:
                return self.attempt(method, target, members)
            except Unavailable as error:
                if not left:
                    raise
                after = str(error.after)
                time.sleep(min(int(after) if after.isdigit() else 1,
                               PATIENCE))

    def derive(self, path, context="", length=32):
        answer = self.call("POST", "/kms/derive", {
            "path": path, "context": context, "length": length})
        key = base64.b64decode(answer["key"])
        if answer["path"] != path or len(key) != length:
            raise Unverified("the answer to another question")
        return key

    def put(self, key, value, **more):
        return self.call("PUT", "/kms/data", {
            "key": key, "value": base64.b64encode(value).decode(), **more})

    def get(self, key):
        answer = self.call("GET", "/kms/data?key=" +
                           urllib.parse.quote(key, safe=""))
        if answer["key"] != key:
            raise Unverified("the answer to another question")
        return base64.b64decode(answer["value"])

    def delete(self, key):
        return self.call("DELETE", "/kms/data", {"key": key})


def main():
    kms = Client()
    node = kms.node
    print(f"node {node.wallet} is instance {node.instance} of app {node.app}")

    # The same bytes from every node, today and next year.
    key = kms.derive("example/wallet")
    print(f"derived example/wallet: {len(key)} bytes, sha256 "
          f"{hashlib.sha256(key).hexdigest()[:16]}")

    # Only a signed 404 means that there is none. A 410 (Evicted) is not one:
    # there was a value, and to write another over it would lose it.
    try:
        kms.get("example/greeting")
        print("example/greeting is there")
    except NotFound:
        kms.put("example/greeting", b"hello", ttl_ms=600000)
        print("example/greeting was not there; stored it")
    print("example/greeting:", kms.get("example/greeting").decode())
    kms.delete("example/greeting")
    try:
        kms.get("example/greeting")
    except NotFound:
        print("example/greeting is deleted")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        print(f"example.py: {failure}", file=sys.stderr)
        sys.exit(failure.status)
    except (OSError, ValueError, KeyError) as error:
        print(f"example.py: {error!r}", file=sys.stderr)
        sys.exit(1)
