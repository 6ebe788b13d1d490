"""What passes between nodes, computed from doc/PROTOCOL.md alone: signatures
and whose they are, envelopes, the keys that come from the master secret, and
the answers of the registries. Cryptography comes from python3-cryptography
and python3-pycryptodome; nothing here is the product's.
"""
import hashlib
import hmac
import http.client
import json
import os

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from probe import N, check, keccak256, point_of, sign  # noqa: F401

P = 2**256 - 2**32 - 977
G = (0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
     0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8)


# ---- secp256k1: whose signature is it (section 1) ---------------------------

def double(p):
    x, y, z = p
    s = 4 * x * y * y % P
    m = 3 * x * x % P
    x3 = (m * m - 2 * s) % P
    return x3, (m * (s - x3) - 8 * y ** 4) % P, 2 * y * z % P


def add(p, q):
    """Jacobian p and q; None is the point at infinity."""
    if p is None or q is None:
        return p or q
    x1, y1, z1 = p
    x2, y2, z2 = q
    u1, u2 = x1 * z2 * z2 % P, x2 * z1 * z1 % P
    s1, s2 = y1 * z2 ** 3 % P, y2 * z1 ** 3 % P
    if u1 == u2:
        return double(p) if s1 == s2 else None
    h, r = (u2 - u1) % P, (s2 - s1) % P
    v = u1 * h * h % P
    x3 = (r * r - h ** 3 - 2 * v) % P
    return x3, (r * (v - x3) - s1 * h ** 3) % P, h * z1 * z2 % P


def multiply(k, point):
    total, p = None, (point[0], point[1], 1)
    while k:
        if k & 1:
            total = add(total, p)
        p = double(p)
        k >>= 1
    return total


def affine(p):
    inverse = pow(p[2], -1, P)
    return p[0] * inverse ** 2 % P, p[1] * inverse ** 3 % P


def address_of(point):
    raw = point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")
    return "0x" + keccak256(raw)[12:].hex()


def wallet_of(private):
    return address_of(affine(multiply(private, G)))


def recover(signature, text):
    """The canonical wallet whose signature of that text it is; ValueError."""
    raw = bytes.fromhex(signature.removeprefix("0x"))
    if len(raw) != 65 or raw[64] not in (0, 1, 27, 28):
        raise ValueError("not a signature")
    r, s = (int.from_bytes(raw[i:i + 32], "big") for i in (0, 32))
    if not 0 < r < N or not 0 < s <= N // 2:
        raise ValueError("out of range")
    message = text.encode()
    z = int.from_bytes(keccak256(
        b"\x19Ethereum Signed Message:\n%d" % len(message) + message), "big")
    square = (r ** 3 + 7) % P
    y = pow(square, (P + 1) // 4, P)
    if y * y % P != square:
        raise ValueError("no such point")
    if y & 1 != raw[64] % 27 & 1:
        y = P - y
    inverse = pow(r, -1, N)
    point = add(multiply(s * inverse % N, (r, y)),
                multiply(-z * inverse % N, G))
    if point is None:
        raise ValueError("no key")
    return address_of(affine(point))


def checksum_wallet(wallet):
    """EIP-55."""
    digits = wallet.lower().removeprefix("0x")
    digest = keccak256(digits.encode()).hex()
    return "0x" + "".join(c.upper() if int(d, 16) >= 8 else c
                          for c, d in zip(digits, digest))


# ---- envelopes (section 3) --------------------------------------------------

def p384(private):
    return ec.derive_private_key(int(private, 16), ec.SECP384R1())


def spki(public):
    """The public key of a hex or raw SPKI."""
    if isinstance(public, str):
        public = bytes.fromhex(public.removeprefix("0x"))
    key = serialization.load_der_public_key(public)
    if not isinstance(key.curve, ec.SECP384R1):
        raise ValueError("not P-384")
    return key


def spki_hex(key):
    return key.public_bytes(
        serialization.Encoding.DER,
        serialization.PublicFormat.SubjectPublicKeyInfo).hex()


class Pair:
    """Envelopes between a private key and another's public one."""

    def __init__(self, own, sender, other):
        self.sender = sender
        self.shared = own.exchange(ec.ECDH(), other)
        self.points = b"".join(sorted([point_of(own.public_key()),
                                       point_of(other)]))

    def key(self, nonce):
        return HKDF(hashes.SHA256(), 32, self.points + nonce,
                    b"capsule-ecdh-aes256gcm-v1").derive(self.shared)

    def seal(self, plain, nonce=None):
        nonce = nonce or os.urandom(12)
        data = AESGCM(self.key(nonce)).encrypt(nonce, plain, None)
        return {"sender_tee_pubkey": self.sender, "nonce": nonce.hex(),
                "encrypted_data": data.hex()}

    def open(self, envelope):
        nonce, data = (bytes.fromhex(envelope[name].removeprefix("0x"))
                       for name in ("nonce", "encrypted_data"))
        return AESGCM(self.key(nonce)).decrypt(nonce, data, None)


# ---- keys (section 4) -------------------------------------------------------

def derive(secret, app_id, info, length=32):
    return HKDF(hashes.SHA256(), length, b"nova-kms:app:%d" % app_id,
                info.encode()).derive(secret)


def sync_key(secret):
    return derive(secret, 0, "sync_hmac_key")


def data_key(secret, app_id):
    return derive(secret, app_id, "data_key")


def at_rest_seal(key, value, nonce=None):
    nonce = nonce or os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, value, None)


def at_rest_open(key, stored):
    return AESGCM(key).decrypt(stored[:12], stored[12:], None)


# ---- /sync (section 7) ------------------------------------------------------

def canonical(members):
    return json.dumps(members, sort_keys=True, separators=(",", ":"),
                      ensure_ascii=False).encode()


def sync_signature(key, envelope):
    return hmac.new(key, canonical(envelope), hashlib.sha256).hexdigest()


def sealing_key(own, other):
    return HKDF(hashes.SHA256(), 32, b"nova-kms:sealed-master-secret",
                b"aes-gcm-key").derive(own.exchange(ec.ECDH(), other))


def seal_secret(secret, other):
    own, nonce = ec.generate_private_key(ec.SECP384R1()), os.urandom(12)
    return {"ephemeral_pubkey": spki_hex(own.public_key()),
            "nonce": nonce.hex(),
            "encrypted_data": AESGCM(sealing_key(own, other)).encrypt(
                nonce, secret, None).hex()}


def open_secret(sealed, own):
    key = sealing_key(own, spki(sealed["ephemeral_pubkey"]))
    return AESGCM(key).decrypt(bytes.fromhex(sealed["nonce"]),
                               bytes.fromhex(sealed["encrypted_data"]), None)


# ---- the registries (section 6) ---------------------------------------------

class Registry:
    """Both contracts, read by eth_call over connections of their own."""

    def __init__(self, url, apps="0x5fbdb2315678afecb367f032d93f642f64180aa3",
                 kms="0xe7f1725e7734ce288f8367e1bb143e90bb3f0512"):
        self.host = url.split("//")[1].strip("/")
        self.apps, self.kms = apps, kms

    def call(self, to, signature, *arguments):
        data = keccak256(signature.encode())[:4] + b"".join(
            a.to_bytes(32, "big") for a in arguments)
        http_ = http.client.HTTPConnection(self.host, timeout=20)
        try:
            http_.request("POST", "/", json.dumps(
                {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params":
                 [{"to": to, "data": "0x" + data.hex()}, "latest"]}),
                {"Content-Type": "application/json"})
            answer = json.loads(http_.getresponse().read())
        finally:
            http_.close()
        check("result" in answer, signature, answer)
        return bytes.fromhex(answer["result"][2:])

    @staticmethod
    def word(data, at):
        check(len(data) >= at + 32, "a short answer")
        return int.from_bytes(data[at:at + 32], "big")

    @classmethod
    def text(cls, data, at):
        length = cls.word(data, at)
        check(len(data) >= at + 32 + length, "a short answer")
        return data[at + 32:at + 32 + length]

    def secret_hash(self):
        return self.call(self.kms, "masterSecretHash()")

    def wallets(self, app_id):
        data = self.call(self.apps, "getActiveInstances(uint256)", app_id)
        at = self.word(data, 0)
        return ["0x" + data[i + 12:i + 32].hex() for i in range(
            at + 32, at + 32 + 32 * self.word(data, at), 32)]

    def instance(self, wallet):
        data = self.call(self.apps, "getInstanceByWallet(address)",
                         int(wallet, 16))
        return self.decode_instance(data)

    @classmethod
    def decode_instance(cls, data):
        base = cls.word(data, 0)
        words = [cls.word(data, base + 32 * i) for i in range(10)]
        return {"instance_id": words[0], "app_id": words[1],
                "version_id": words[2],
                "url": cls.text(data, base + words[4]).decode(),
                "tee_pubkey": cls.text(data, base + words[5]).hex(),
                "wallet": "0x%040x" % words[6],
                "zk_verified": bool(words[7]), "active": words[8] == 0}
