"""The HTTP side: POST /generate and GET /health on the loopback interface.

Handlers run in a thread for each connection; the engine's one thread alone talks to the GPU. With "stream": true the
answer comes as server-sent events, one for each token as soon as it is there, and a last one with the whole answer.
"""

import http.server
import json
import sys

import engine

MAX_BODY_BYTES = 64 * 1024
MAX_WAITING_REQUESTS = engine.MAX_WAITING_REQUESTS
MAX_NEW_TOKENS = 512


class BadRequest(Exception):
    """The client's mistake; the message is sent back."""


def parse_generate_request(body):
    """(prompt, max_tokens, session, stream) from a JSON body, or BadRequest."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise BadRequest("the body must be a JSON object")
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise BadRequest("'prompt' must be a string that is not empty")
    max_tokens = fields.get("max_tokens", 64)
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or not 1 <= max_tokens <= MAX_NEW_TOKENS:
        raise BadRequest(f"'max_tokens' must be a whole number from 1 to {MAX_NEW_TOKENS}")
    session = fields.get("session", "default")
    if not isinstance(session, str) or len(session) > 100:
        raise BadRequest("'session' must be a string of at most 100 characters")
    stream = fields.get("stream", False)
    if not isinstance(stream, bool):
        raise BadRequest("'stream' must be true or false")
    # Lone surrogates are legal in JSON and not in UTF-8.
    return prompt.encode("utf-8", "replace"), max_tokens, session, stream


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that an idle or half-sent connection is kept
    # Headers and body leave in one packet: in two, the second waits 40 ms for the client's delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    engine = None  # set by make_server

    def do_GET(self):
        if self.path == "/health":
            self._reply(200, {"status": "ok"})
        else:
            self._reply(404, {"error": "try GET /health or POST /generate"})

    def do_POST(self):
        body = self._read_body()
        if body is None:
            return
        if self.path != "/generate":
            self._reply(404, {"error": "try POST /generate"})
            return
        streaming = False
        try:
            prompt, max_tokens, session, streaming = parse_generate_request(body)
            request = self.engine.submit(prompt, max_tokens, session)
            if streaming:
                self._stream(request)
                return
            for _ in request:
                pass
            self._reply(200, request.fields)
        except BadRequest as error:
            self._reply(400, {"error": str(error)})
        except engine.Busy as error:
            self._reply(503, {"error": str(error)})
        except Exception as error:  # the client gets an answer whatever went wrong, and the server lives on
            self._reply(500, {"error": f"{type(error).__name__}: {error}"})

    def _stream(self, request):
        """Server-sent events. An error after the first byte can only be an event: the status has been sent."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")  # the body ends with the connection
        self.end_headers()
        self.close_connection = True
        try:
            for token in request:
                self._event({"token": token.decode("ascii")})
            self._event(request.fields)
        except OSError:
            pass  # the client has gone; its answer is completed all the same, for its conversation may go on
        except Exception as error:
            self._event({"error": f"{type(error).__name__}: {error}"})

    def _event(self, fields):
        self.wfile.write(b"data: " + json.dumps(fields).encode() + b"\n\n")
        self.wfile.flush()

    def _read_body(self):
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if 0 <= length <= MAX_BODY_BYTES:
            return self.rfile.read(length)
        self.close_connection = True  # the body stays unread, so nothing after it can be understood
        if length < 0:
            self._reply(411, {"error": "Content-Length is missing or wrong"})
        else:
            self._reply(413, {"error": f"the body is larger than {MAX_BODY_BYTES} bytes"})
        return None

    def _reply(self, status, fields):
        body = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Silent: a line for each request on stderr would be most of what the program prints."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # The default of 5 drops connections in a burst, and their clients wait seconds before they try again.
    request_queue_size = 2 * MAX_WAITING_REQUESTS

    def handle_error(self, request, client_address):
        """A client that has gone is no news; anything else is printed, as by default."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def make_server(the_engine, port):
    """A server, not yet started, on 127.0.0.1; port 0 picks a free one (server.server_port)."""
    handler = type("Handler", (_Handler,), {"engine": the_engine})
    return _Server(("127.0.0.1", port), handler)
