"""A proxy between an app and a node that lies as the file MODE in its
directory says, for tests of clients: whatever they are told, they must believe
nobody but the node that the registry names.

usage: tamper.py URL DIRECTORY; the port it listens on is in DIRECTORY/port.

What it makes up itself says "forged", so that a test can look for it.
"""
import http.client
import http.server
import json
import os
import sys

url, directory = sys.argv[1], sys.argv[2]
host, port = url.split("//")[1].split(":")
kept = None
put_off = set()

V1 = "x-kms-response-signature"
V2 = "x-kms-response-signature-v2"


def without(headers, name):
    return [h for h in headers if h[0].lower() != name]


def other_signer(headers, name):
    """The same signature with the other v: somebody else's, well formed."""
    return [(k, v[:-1] + ("1" if v[-1] == "0" else "0"))
            if k.lower() == name else (k, v) for k, v in headers]


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def any(self):
        with open(directory + "/mode") as file:
            mode = file.read().strip()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        node = http.client.HTTPConnection(host, int(port), timeout=20)
        node.request(self.command, self.path, body or None, dict(self.headers))
        r = node.getresponse()
        status, data = r.status, r.read()
        headers = [(k, v) for k, v in r.getheaders()
                   if k.lower() not in ("content-length", "connection", "date",
                                        "server", "transfer-encoding")]
        node.close()
        if self.path.startswith("/kms/"):
            status, headers, data = self.tamper(mode, status, headers, data)
        elif self.path == "/status" and mode.startswith("wallet "):
            claim = json.loads(data)
            claim["node"]["tee_wallet"] = mode.split()[1]
            data = json.dumps(claim).encode()
        self.send_response(status)
        for k, v in headers:
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def tamper(self, mode, status, headers, data):
        global kept
        wallet = self.headers.get("X-App-Wallet")
        if mode == "keep":
            kept = status, headers, data
        elif mode == "replay":
            return kept
        elif mode == "no-v2":
            headers = without(headers, V2)
        elif mode == "no-v1":
            headers = without(headers, V1)
        elif mode == "other-v2":
            headers = other_signer(headers, V2)
        elif mode == "other-v1":
            headers = other_signer(headers, V1)
        elif mode == "twice":
            headers += [h for h in headers if h[0].lower() == V2]
        elif mode == "status":
            status = 201
        elif mode == "flip":
            at = data.index(b'"encrypted_data"') + 22
            data = data[:at] + (b"0" if data[at:at + 1] != b"0" else b"1") + data[at + 1:]
        elif mode in ("404", "410", "403", "503", "429", "302"):
            status, data = int(mode), b'{"code":"not_found","message":"forged"}'
            headers = [("Location", url + "/kms/data"), ("Retry-After", "1")]
        elif mode == "404-signed-as-200":
            status, data = 404, b'{"code":"not_found","message":"forged"}'
        elif mode == "plain":
            data = b'{"app_id":100,"key":"k","value":"Zg==","updated_at_ms":1}'
        elif mode == "next-nonce":
            headers = without(headers, "x-kms-next-nonce")
            headers += [("X-KMS-Next-Nonce", "AAAAAAAAAAAAAAAAAAAAAA==")]
        elif mode == "later" and wallet not in put_off:
            # Once a caller; the next attempt gets through.
            put_off.add(wallet)
            status, headers = 503, [("Retry-After", "1")]
            data = b'{"code":"service_unavailable","message":"forged"}'
        return status, headers, data

    do_GET = do_POST = do_PUT = do_DELETE = any


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
with open(directory + "/port.new", "w") as file:
    file.write(str(server.server_address[1]))
os.rename(directory + "/port.new", directory + "/port")
server.serve_forever()
