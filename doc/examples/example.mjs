#!/usr/bin/env node
// An app that keeps its keys in the KMS, in plain JavaScript: node 18 or newer
// and nothing else. doc/guide-apps.md explains the steps; section numbers are
// those of doc/PROTOCOL.md. Exit status: 0 done, 1 wrong use, 3 refused, 4 try
// again later, 5 an answer or a node that cannot be believed, 6 evicted.
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';

// Without the environment: where the simulation is.
const env = process.env;
const NODE = env.KMS_NODE ?? 'http://127.0.0.1:4000';
const RPC = env.KMS_RPC ?? 'http://127.0.0.1:18545';
const IDENTITY = env.KMS_IDENTITY ?? 'kms-identity.json';
const APPS = env.KMS_NOVA_APP_REGISTRY ?? '0x5fbdb2315678afecb367f032d93f642f64180aa3';
const KMS = env.KMS_REGISTRY ?? '0xe7f1725e7734ce288f8367e1bb143e90bb3f0512';

const ANSWER_MAX = 16 << 20;
const NONCE_REUSE_MS = 100_000; // it lives 120 s
const ATTEMPTS = 3;             // of a call that is answered with "later"
const PATIENCE = 10;            // seconds, however long Retry-After says

// What ends the program, with its exit status.
class Failure extends Error {
  constructor(status, message, after) {
    super(message);
    this.status = status;
    this.after = after;
  }
}
const NOT_FOUND = 2;   // the node's signed word: there is none
const REFUSED = 3;     // the node's signed word: another 4xx
const UNAVAILABLE = 4;
const UNVERIFIED = 5;  // nothing of it may be used
const EVICTED = 6;     // the node's signed word: it was there

const unverified = (what) => { throw new Failure(UNVERIFIED, what); };
const unavailable = (what, after) => { throw new Failure(UNAVAILABLE, what, after); };
const sha256 = (data) => crypto.createHash('sha256').update(data).digest('hex');
const unhex = (text) => {
  if (typeof text !== 'string' || !/^(0x)?([0-9a-f]{2})*$/i.test(text)) unverified('not hex');
  return Buffer.from(text.replace(/^0x/, ''), 'hex');
};

// ---- Keccak-256 (node has SHA-3, which pads differently) ----------------------

const MASK = (1n << 64n) - 1n;
const rotate = (x, n) => ((x << n) | (x >> (64n - n))) & MASK;

function keccakF(s) {
  for (let round = 0, lfsr = 1; round < 24; round++) {
    const c = [0, 1, 2, 3, 4].map((x) => s[x] ^ s[x + 5] ^ s[x + 10] ^ s[x + 15] ^ s[x + 20]);
    for (let i = 0; i < 25; i++) s[i] ^= c[(i + 4) % 5] ^ rotate(c[(i + 1) % 5], 1n);
    for (let t = 0, x = 1, y = 0, lane = s[1]; t < 24; t++) {
      [x, y] = [y, (2 * x + 3 * y) % 5];
      const there = s[x + 5 * y];
      s[x + 5 * y] = rotate(lane, BigInt(((t + 1) * (t + 2)) / 2 % 64));
      lane = there;
    }
    for (let y = 0; y < 25; y += 5) {
      const row = s.slice(y, y + 5);
      for (let x = 0; x < 5; x++) s[y + x] = row[x] ^ (~row[(x + 1) % 5] & MASK & row[(x + 2) % 5]);
    }
    for (let j = 0; j < 7; j++) {
      lfsr = ((lfsr << 1) ^ ((lfsr >> 7) * 0x71)) & 255;
      if (lfsr & 2) s[0] ^= 1n << BigInt((1 << j) - 1);
    }
  }
}

function keccak256(data) {
  const rate = 136;
  const padded = Buffer.alloc((Math.floor(data.length / rate) + 1) * rate);
  data.copy(padded);
  padded[data.length] ^= 1;
  padded[padded.length - 1] ^= 0x80;
  const state = new Array(25).fill(0n);
  for (let at = 0; at < padded.length; at += rate) {
    for (let i = 0; i < rate / 8; i++) state[i] ^= padded.readBigUInt64LE(at + 8 * i);
    keccakF(state);
  }
  const out = Buffer.alloc(32);
  for (let i = 0; i < 4; i++) out.writeBigUInt64LE(state[i], 8 * i);
  return out;
}

// ---- wallets (section 1) --------------------------------------------------------
// A signature is checked by recovering the address that made it, of public
// numbers alone. node:crypto cannot sign a digest that it did not compute, so
// sign() does the last step of ECDSA itself, blinded; if you have a library
// such as ethers or @noble/curves, let it sign.

const P = 2n ** 256n - 2n ** 32n - 977n;
const N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const G = [0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n,
  0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n];
const number = (bytes) => BigInt(`0x${bytes.toString('hex') || '0'}`);
const bytes32 = (value) => Buffer.from(value.toString(16).padStart(64, '0'), 'hex');
const modulo = (a, m) => ((a % m) + m) % m;

function inverse(a, m) {
  let [r, rest, x, y] = [m, modulo(a, m), 0n, 1n];
  while (rest) {
    const q = r / rest;
    [r, rest, x, y] = [rest, r - q * rest, y, x - q * y];
  }
  return modulo(x, m);
}

function power(base, exponent, m) {
  let result = 1n;
  for (let b = base; exponent; exponent >>= 1n, b = (b * b) % m) {
    if (exponent & 1n) result = (result * b) % m;
  }
  return result;
}

function add(a, b) {
  if (!a || !b) return a ?? b;
  if (a[0] === b[0] && a[1] !== b[1]) return null;
  const slope = a[0] === b[0]
    ? 3n * a[0] * a[0] * inverse(2n * a[1], P)
    : (b[1] - a[1]) * inverse(b[0] - a[0], P);
  const x = modulo(slope * slope - a[0] - b[0], P);
  return [x, modulo(slope * (a[0] - x) - a[1], P)];
}

function multiply(k, point) {
  let total = null;
  for (; k; k >>= 1n, point = add(point, point)) if (k & 1n) total = add(total, point);
  return total;
}

function eip191(text) {
  const message = Buffer.from(text);
  return number(keccak256(Buffer.concat([
    Buffer.from(`\x19Ethereum Signed Message:\n${message.length}`), message])));
}

// The wallet that signed the text, null if the signature is not one.
function signer(text, signature) {
  if (!/^(0x)?[0-9a-f]{130}$/i.test(signature)) return null;
  const raw = unhex(signature);
  const [r, s] = [number(raw.subarray(0, 32)), number(raw.subarray(32, 64))];
  const odd = { 0: 0n, 1: 1n, 27: 0n, 28: 1n }[raw[64]];
  const square = (r ** 3n + 7n) % P;
  let y = power(square, (P + 1n) / 4n, P);
  if (odd === undefined || r === 0n || r >= N || s === 0n || s > N / 2n ||
      (y * y) % P !== square) return null;
  if ((y & 1n) !== odd) y = P - y;
  const i = inverse(r, N);
  const point = add(multiply((s * i) % N, [r, y]), multiply(modulo(-eip191(text) * i, N), G));
  if (!point) return null;
  const hash = keccak256(Buffer.concat(point.map(bytes32)));
  return `0x${hash.subarray(12).toString('hex')}`;
}

function sign(privateKey, text) {
  const once = crypto.createECDH('secp256k1');
  const point = once.generateKeys();
  const r = number(point.subarray(1, 33)) % N;
  const blind = number(crypto.randomBytes(32)) % N || 1n;
  const k = number(once.getPrivateKey());
  let s = (inverse((k * blind) % N, N) *
    ((blind * eip191(text) + ((blind * r) % N) * privateKey) % N)) % N;
  let odd = point[64] & 1;
  if (s > N / 2n) [s, odd] = [N - s, odd ^ 1];
  if (r === 0n || s === 0n) return sign(privateKey, text);
  return `0x${Buffer.concat([bytes32(r), bytes32(s), Buffer.from([odd])]).toString('hex')}`;
}

// ---- P-384 (section 3) ------------------------------------------------------------

const SPKI = Buffer.from('3076301006072a8648ce3d020106052b81040022036200', 'hex');

// The point of a key, given as DER SubjectPublicKeyInfo or as the point.
function p384Point(data) {
  const point = data.subarray(0, SPKI.length).equals(SPKI) ? data.subarray(SPKI.length) : data;
  if (point.length !== 97 || point[0] !== 4) unverified('not an uncompressed P-384 key');
  return point;
}

// ---- HTTP ---------------------------------------------------------------------

// { status, headers, body }. Follows no redirect.
function ask(base, method, target, body, headers = {}) {
  const url = new URL(base);
  const options = {
    method,
    hostname: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port,
    path: url.pathname.replace(/\/$/, '') + target,
    headers: body === undefined ? headers : { ...headers, 'Content-Length': Buffer.byteLength(body) },
    timeout: 30_000,
  };
  return new Promise((resolve, reject) => {
    const lost = (error) => reject(new Failure(UNAVAILABLE, `no answer (${error.code ?? error.message})`));
    const request = (url.protocol === 'https:' ? https : http).request(options, (answer) => {
      const pieces = [];
      let length = 0;
      answer.on('data', (piece) => {
        pieces.push(piece);
        length += piece.length;
        if (length > ANSWER_MAX) request.destroy(new Error('an answer without end'));
      });
      // A repeated header comes joined with commas, and is no signature then.
      answer.on('end', () => resolve({
        status: answer.statusCode, headers: answer.headers, body: Buffer.concat(pieces),
      }));
      answer.on('error', lost);
    });
    request.on('timeout', () => request.destroy(new Error('timeout')));
    request.on('error', lost);
    request.end(body);
  });
}

function jsonObject(data) {
  let value = null;
  try {
    value = JSON.parse(data.toString());
  } catch { /* not an object either */ }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) unverified('not a JSON object');
  return value;
}

// The text that is hashed: members sorted, no white space.
const canonical = (value) => JSON.stringify(value, Object.keys(value).sort());

// ---- the chain (section 6) ------------------------------------------------------

async function rpc(method, ...params) {
  const call = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  const { status, body } = await ask(RPC, 'POST', '/', call, { 'Content-Type': 'application/json' });
  let result;
  try {
    ({ result } = JSON.parse(body.toString()));
  } catch { /* no result */ }
  if (typeof result !== 'string') unavailable(`the chain does not answer ${method} (HTTP ${status})`);
  return result;
}

// What a contract returned: 32-byte words from an offset on.
class Words {
  constructor(data, base = 0) {
    this.data = data;
    this.base = base;
  }

  bytes(at, length) {
    if (at + length > this.data.length) unverified("the registry's answer is cut short");
    return this.data.subarray(at, at + length);
  }

  word(at) {
    return number(this.bytes(at, 32));
  }

  number(index) {
    return this.word(this.base + 32 * index);
  }

  // What the word at index points to: a length, and so many bytes.
  text(index) {
    const at = this.base + Number(this.number(index));
    return this.bytes(at + 32, Number(this.word(at)));
  }

  struct() {
    return new Words(this.data, Number(this.number(0)));
  }
}

async function view(contract, block, name, ...numbers) {
  const data = Buffer.concat([keccak256(Buffer.from(name)).subarray(0, 4), ...numbers.map(bytes32)]);
  return new Words(unhex(await rpc('eth_call', { to: contract, data: `0x${data.toString('hex')}` }, block)));
}

function origin(text) {
  try {
    const url = new URL(text);
    return url.origin + url.pathname.replace(/\/$/, '');
  } catch {
    return null;
  }
}

// The node as the registry has it. What it says of itself is used for nothing
// but to ask the registry.
async function confirmNode() {
  const { status, body } = await ask(NODE, 'GET', '/status');
  if (status !== 200) unavailable(`GET /status was answered with HTTP ${status}`);
  const claim = String(jsonObject(body).node?.tee_wallet).toLowerCase();
  if (!/^0x[0-9a-f]{40}$/.test(claim)) unverified('/status names no wallet');
  const block = await rpc('eth_blockNumber'); // all of it at one block
  const it = (await view(APPS, block, 'getInstanceByWallet(address)', BigInt(claim))).struct();
  const [instance, app, version] = [it.number(0), it.number(1), it.number(2)];
  const wallet = `0x${it.number(6).toString(16).padStart(40, '0')}`;
  if (!instance || wallet !== claim) unverified(`${claim} is not registered on this chain`);
  if (app !== (await view(KMS, block, 'kmsAppId()')).number(0)) {
    unverified(`${claim} belongs to another app than the KMS`);
  }
  if (it.number(8) !== 0n || it.number(7) !== 1n) unverified(`${claim} is not ACTIVE and verified`);
  const row = (await view(APPS, block, 'getApp(uint256)', app)).struct();
  if (row.number(0) !== app || row.number(7) !== 0n) unverified("the KMS's app is not ACTIVE");
  const code = (await view(APPS, block, 'getVersion(uint256,uint256)', app, version)).struct();
  if (!version || code.number(0) !== version || code.number(7) > 1n) {
    unverified('the node runs a version that is revoked');
  }
  // What is reached over loopback has another URL for everybody else.
  if (!['127.0.0.1', '[::1]', 'localhost'].includes(new URL(NODE).hostname) &&
      origin(it.text(4).toString()) !== origin(NODE)) {
    unverified('the node is registered under another URL');
  }
  return { wallet, instance, app, point: p384Point(it.text(5)) };
}

// ---- calls (sections 2, 3 and 5) --------------------------------------------------

// One app instance and one node. Make a new one every few minutes: the registry
// is asked once, and a node can be revoked.
class Client {
  static async open() {
    const client = new Client();
    const identity = JSON.parse(fs.readFileSync(IDENTITY, 'utf8'));
    client.node = await confirmNode();
    client.wallet = identity.wallet;
    client.walletKey = BigInt(`0x${identity.wallet_private_key}`);
    client.teePubkey = identity.tee_pubkey;
    const own = p384Point(unhex(identity.tee_pubkey));
    const ecdh = crypto.createECDH('secp384r1');
    ecdh.setPrivateKey(identity.tee_private_key, 'hex');
    try {
      // The same for every message between these two keys.
      client.shared = ecdh.computeSecret(client.node.point);
    } catch {
      unverified('not a point on P-384');
    }
    client.points = Buffer.concat([own, client.node.point].sort(Buffer.compare));
    return client;
  }

  key(nonce) {
    return Buffer.from(crypto.hkdfSync('sha256', this.shared, Buffer.concat([this.points, nonce]),
      'capsule-ecdh-aes256gcm-v1', 32));
  }

  seal(members) {
    const nonce = crypto.randomBytes(12);
    const cipher = crypto.createCipheriv('aes-256-gcm', this.key(nonce), nonce);
    const data = Buffer.concat([cipher.update(canonical(members)), cipher.final(), cipher.getAuthTag()]);
    return canonical({
      sender_tee_pubkey: this.teePubkey, nonce: nonce.toString('hex'), encrypted_data: data.toString('hex'),
    });
  }

  open(envelope) {
    const [nonce, data] = [unhex(envelope.nonce), unhex(envelope.encrypted_data)];
    if (nonce.length !== 12 || data.length < 16) unverified('not an envelope');
    const decipher = crypto.createDecipheriv('aes-256-gcm', this.key(nonce), nonce, { authTagLength: 16 });
    decipher.setAuthTag(data.subarray(-16));
    let plaintext;
    try {
      plaintext = Buffer.concat([decipher.update(data.subarray(0, -16)), decipher.final()]);
    } catch {
      unverified('the envelope cannot be opened');
    }
    return jsonObject(plaintext);
  }

  // A nonce, and whether it came with an earlier answer.
  async takeNonce() {
    const kept = this.nextNonce;
    this.nextNonce = undefined;
    if (kept?.nonce && performance.now() - kept.since < NONCE_REUSE_MS) return [kept.nonce, true];
    const { status, headers, body } = await ask(NODE, 'GET', '/nonce');
    if (status !== 200) unavailable(`GET /nonce was answered with HTTP ${status}`, headers['retry-after']);
    const { nonce } = jsonObject(body);
    if (!/^[A-Za-z0-9+/=]{16,64}$/.test(nonce)) unverified('not a nonce');
    return [nonce, false];
  }

  // Sign and send: what was signed with, and what came back.
  async exchange(method, target, body) {
    const [nonce, reused] = await this.takeNonce();
    const now = String(Math.floor(Date.now() / 1000));
    const content = sha256(body ?? '');
    const signature = sign(this.walletKey,
      ['NovaKMS:AppAuth:v2', nonce, this.node.wallet, now, method, target, content].join(':'));
    const headers = {
      'X-App-Auth': 'v2',
      'X-App-Signature': signature,
      'X-App-Nonce': nonce,
      'X-App-Timestamp': now,
      'X-App-Wallet': this.wallet,
      'X-App-Content-SHA256': content,
      ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
    };
    return { reused, signature, ...await ask(NODE, method, target, body, headers) };
  }

  // The JSON of an answer that the node signed for this request.
  believe({ signature, status, headers, body }) {
    const v1 = headers['x-kms-response-signature'];
    const v2 = headers['x-kms-response-signature-v2'];
    // Needs no proof: whoever can forge this can also cut the line.
    if (!v1 && !v2 && (status === 429 || status >= 500)) unavailable(`HTTP ${status}`, headers['retry-after']);
    if (!v1 || !v2) unverified(`HTTP ${status} without the node's signatures`);
    const answer = jsonObject(body);
    const members = status < 300 ? 'encrypted_data,nonce,sender_tee_pubkey' : 'code,message';
    if (Object.keys(answer).sort().join() !== members ||
        !Object.values(answer).every((value) => typeof value === 'string')) {
      unverified('neither an envelope nor an error');
    }
    const { wallet } = this.node;
    const bound = `${signature}:${wallet}:${status}:${sha256(canonical(answer))}`;
    if (signer(`NovaKMS:Response:${signature}:${wallet}`, v1) !== wallet ||
        signer(`NovaKMS:Response:v2:${bound}`, v2) !== wallet) {
      unverified("the signatures are not the node's for this");
    }
    this.nextNonce = { nonce: headers['x-kms-next-nonce'], since: performance.now() };
    return answer;
  }

  async attempt(method, target, members) {
    const body = members && this.seal(members);
    let got = await this.exchange(method, target, body);
    // A nonce of before is lost when the node starts anew: once more.
    if (got.reused && got.status === 403 && !got.headers['x-kms-response-signature-v2']) {
      got = await this.exchange(method, target, body);
    }
    const answer = this.believe(got);
    if (got.status < 300) {
      if (!p384Point(unhex(answer.sender_tee_pubkey)).equals(this.node.point)) {
        unverified('an envelope of another key');
      }
      return this.open(answer);
    }
    const what = `HTTP ${got.status}: ${answer.message}`;
    if (got.status === 429 || got.status >= 500) unavailable(what, got.headers['retry-after']);
    throw new Failure({ 404: NOT_FOUND, 410: EVICTED }[got.status] ?? REFUSED, what);
  }

  async call(method, target, members) {
    for (let left = ATTEMPTS - 1; ; left--) {
      try {
        return await this.attempt(method, target, members);
      } catch (error) {
        if (error.status !== UNAVAILABLE || left === 0) throw error;
        const after = /^\d{1,9}$/.test(error.after) ? Number(error.after) : 1;
        await sleep(1000 * Math.min(after, PATIENCE));
      }
    }
  }

  async derive(path, context = '', length = 32) {
    const answer = await this.call('POST', '/kms/derive', { path, context, length });
    const key = Buffer.from(answer.key, 'base64');
    if (answer.path !== path || key.length !== length) unverified('the answer to another question');
    return key;
  }

  put(key, value, more) {
    return this.call('PUT', '/kms/data', { key, value: Buffer.from(value).toString('base64'), ...more });
  }

  async get(key) {
    const answer = await this.call('GET', `/kms/data?key=${encodeURIComponent(key)}`);
    if (answer.key !== key) unverified('the answer to another question');
    return Buffer.from(answer.value, 'base64');
  }

  delete(key) {
    return this.call('DELETE', '/kms/data', { key });
  }
}

async function main() {
  const kms = await Client.open();
  console.log(`node ${kms.node.wallet} is instance ${kms.node.instance} of app ${kms.node.app}`);

  // The same bytes from every node, today and next year.
  const key = await kms.derive('example/wallet');
  console.log(`derived example/wallet: ${key.length} bytes, sha256 ${sha256(key).slice(0, 16)}`);

  // Only a signed 404 means that there is none. A 410 (EVICTED) is not one:
  // there was a value, and to write another over it would lose it.
  const absent = (error) => {
    if (error.status !== NOT_FOUND) throw error;
    return null;
  };
  if (await kms.get('example/greeting').catch(absent)) {
    console.log('example/greeting is there');
  } else {
    await kms.put('example/greeting', 'hello', { ttl_ms: 600000 });
    console.log('example/greeting was not there; stored it');
  }
  console.log(`example/greeting: ${await kms.get('example/greeting')}`);
  await kms.delete('example/greeting');
  if (await kms.get('example/greeting').catch(absent) === null) console.log('example/greeting is deleted');
}

main().catch((error) => {
  console.error(`example.mjs: ${error.message}`);
  process.exitCode = error.status ?? 1;
});
