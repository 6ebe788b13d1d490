"""Who terminates TLS before a node: every request and every answer passes
through the test, which may rewrite, keep, replay or withhold them. Without
keys of its own, as a proxy of a data centre has none."""
import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP = {"connection", "content-length", "expect", "host", "keep-alive", "date",
       "server", "transfer-encoding"}


class Mitm:
    """Made as a TcpProxy is. on_request(path, headers, body) and
    on_answer(path, asked, status, headers, body), asked being the request's
    body, return the same, changed or not; None hangs up. on_request may also
    return the answer (status, headers, body): the node is not asked then.
    Headers are dicts with names in lower case."""

    def __init__(self, to, host="127.0.0.1", port=0):
        self.to = to
        self.passed = []  # (path, request's headers, body) of every POST
        self.honest()
        mitm = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            timeout = 30

            def log_message(self, *_):
                pass

            def do_GET(self):
                with contextlib.suppress(OSError, http.client.HTTPException):
                    mitm.handle(self)

            do_POST = do_PUT = do_DELETE = do_GET

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass  # the other side is gone

        self.server = Server((host, port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://{host}:{self.port}"
        threading.Thread(target=self.server.serve_forever,
                         daemon=True).start()

    def honest(self):
        self.on_request = lambda path, headers, body: (path, headers, body)
        self.on_answer = lambda path, asked, status, headers, body: (
            status, headers, body)

    heal = honest

    def forward(self, method, path, headers, body):
        node = http.client.HTTPConnection(*self.to, timeout=20)
        try:
            node.request(method, path, body or None, headers)
            answer = node.getresponse()
            return (answer.status,
                    {k.lower(): v for k, v in answer.getheaders()
                     if k.lower() not in HOP}, answer.read())
        finally:
            node.close()

    def handle(self, handler):
        handler.close_connection = True  # unless all went well
        length = int(handler.headers.get("Content-Length", 0))
        headers = {k.lower(): v for k, v in handler.headers.items()
                   if k.lower() not in HOP}
        body = handler.rfile.read(length)
        if handler.command == "POST":
            self.passed.append((handler.path, headers, body))
        asked = self.on_request(handler.path, headers, body)
        if asked is None:
            return
        answer = asked if isinstance(asked[0], int) else self.on_answer(
            handler.path, asked[2], *self.forward(handler.command, *asked))
        if answer is None:
            return
        status, headers, body = answer
        handler.send_response_only(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = False

    def close(self):
        self.server.shutdown()
        self.server.server_close()
