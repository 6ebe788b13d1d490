"""JSON-RPC endpoints that stand before one chain and can lie, lag, stall or
be gone, each for itself: proxies on free ports of the loopback."""
import http.client
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HASH, INSTANCE = "0x1ef99d10", "0x9863f8a2"


class Endpoint:
    """fault is called with the request and a function that asks the chain; it
    returns the answer's result, or None to hang up. None: no fault."""

    def __init__(self, chain_url):
        self.host = chain_url.split("//")[1].strip("/")
        self.fault = None
        self.asked = self.faults = self.now = self.most = 0
        self.methods = []  # (method, params) of every call
        self.latency = 0
        self.lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            chain = None

            def log_message(self, *_):
                pass

            def ask(self, call):
                if self.chain is None:
                    self.chain = http.client.HTTPConnection(endpoint.host,
                                                            timeout=20)
                self.chain.request("POST", "/", json.dumps(call),
                                   {"Content-Type": "application/json"})
                return json.loads(self.chain.getresponse().read())

            def do_POST(self):
                body = json.loads(self.rfile.read(
                    int(self.headers["Content-Length"])))
                answer = endpoint.answer(body, self.ask)
                if answer is None:
                    self.close_connection = True
                    return
                data = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_):
                pass  # the other side is gone

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, call, ask):
        with self.lock:
            self.asked += 1
            self.now += 1
            self.most = max(self.most, self.now)
            self.methods.append((call["method"], call["params"]))
            fault = self.fault
        try:
            if self.latency:
                time.sleep(self.latency)
            if fault is None:
                return ask(call)
            return fault(self, call, ask)
        finally:
            with self.lock:
                self.now -= 1

    def break_with(self, fault):
        self.faults = 0
        self.fault = fault

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def calldata(call):
    return call["params"][0]["data"] if call["method"] == "eth_call" else ""




def wrong_hash(byte):
    def fault(endpoint, call, ask):
        answer = ask(call)
        if calldata(call).startswith(HASH):
            answer["result"] = "0x" + "%02x" % byte * 32
            endpoint.faults += 1
        return answer
    return fault


def false_instance(stranger, app):
    """The stranger's wallet has the app's instance with the stranger's key."""
    def fault(endpoint, call, ask):
        wallet = stranger["wallet"][2:].lower()
        if not calldata(call).lower().endswith(wallet):
            return ask(call)
        real = app["wallet"][2:].lower()
        call["params"][0]["data"] = INSTANCE + "00" * 12 + real
        answer = ask(call)
        answer["result"] = answer["result"].lower().replace(
            real, wallet).replace(app["tee_pubkey"].lower(),
                                  stranger["tee_pubkey"].lower())
        endpoint.faults += 1
        return answer
    return fault


def stale_head():
    """The head stands still from now on."""
    kept = []

    def fault(endpoint, call, ask):
        if call["method"] != "eth_getBlockByNumber" or \
                call["params"][0] != "latest":
            return ask(call)
        if not kept:
            kept.append(ask(call)["result"])
        endpoint.faults += 1
        return {"jsonrpc": "2.0", "id": call["id"], "result": kept[0]}
    return fault


def head_ahead(blocks):
    """A head out of this world; what is asked there is answered from the
    real one, with the number that was asked for."""
    def fault(endpoint, call, ask):
        name = call["method"]
        if name == "eth_getBlockByNumber":
            asked = call["params"][0]
            call["params"][0] = "latest"
            answer = ask(call)
            block = answer["result"]
            if asked == "latest":
                asked = hex(int(block["number"], 16) + blocks)
                endpoint.faults += 1
            if asked.startswith("0x"):
                block["number"] = asked
            return answer
        if name == "eth_call":
            call["params"][1] = "latest"
        return ask(call)
    return fault


def dead(endpoint, call, ask):
    endpoint.faults += 1
    return None


def slow(seconds):
    def fault(endpoint, call, ask):
        endpoint.faults += 1
        time.sleep(seconds)
        return ask(call)
    return fault
