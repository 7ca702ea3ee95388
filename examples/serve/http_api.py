"""The HTTP side: POST /generate and GET /health on the loopback interface.

Handlers run in a thread for each connection, but one worker thread alone talks to the GPU, in the order of arrival:
what a request costs is then its own, and a given sequence of requests always gives the same text.
"""

import concurrent.futures
import http.server
import json
import threading

MAX_BODY_BYTES = 64 * 1024
MAX_WAITING_REQUESTS = 64
MAX_NEW_TOKENS = 512


class BadRequest(Exception):
    """The client's mistake; the message is sent back."""


class Busy(Exception):
    """Too many requests are waiting."""


class GenerationQueue:
    """Requests in the order of arrival, and the one thread that works on them.

    `generator` has generate(prompt: bytes, max_tokens: int, session: str) -> dict.
    """

    def __init__(self, generator):
        self._generator = generator
        self._worker = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="generate")
        self._lock = threading.Lock()
        self._waiting = 0

    @property
    def waiting(self):
        """Requests that are worked on or wait for it."""
        return self._waiting

    def generate(self, prompt, max_tokens, session):
        """Waits for its turn and returns the generator's answer, or raises what it raised."""
        with self._lock:
            if self._waiting == MAX_WAITING_REQUESTS:
                raise Busy(f"{MAX_WAITING_REQUESTS} requests are waiting already")
            self._waiting += 1
        try:
            return self._worker.submit(self._generator.generate, prompt, max_tokens, session).result()
        finally:
            with self._lock:
                self._waiting -= 1

    def close(self):
        self._worker.shutdown(wait=True)


def parse_generate_request(body):
    """(prompt, max_tokens, session) from a JSON body, or BadRequest."""
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
    # Lone surrogates are legal in JSON and not in UTF-8.
    return prompt.encode("utf-8", "replace"), max_tokens, session


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that an idle or half-sent connection is kept
    # Headers and body leave in one packet: in two, the second waits 40 ms for the client's delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    queue = None  # set by make_server

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
        try:
            self._reply(200, self.queue.generate(*parse_generate_request(body)))
        except BadRequest as error:
            self._reply(400, {"error": str(error)})
        except Busy as error:
            self._reply(503, {"error": str(error)})
        except Exception as error:  # the client gets an answer whatever went wrong, and the server lives on
            self._reply(500, {"error": f"{type(error).__name__}: {error}"})

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


def make_server(queue, port):
    """A server, not yet started, on 127.0.0.1; port 0 picks a free one (server.server_port)."""
    handler = type("Handler", (_Handler,), {"queue": queue})
    return _Server(("127.0.0.1", port), handler)
