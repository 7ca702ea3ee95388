"""The parts of examples/serve that need neither PyTorch nor a GPU: arguments, refusals, and HTTP with a dummy generator."""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

SERVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "serve")
sys.path.insert(0, SERVE)

import http_api  # noqa: E402
import limits  # noqa: E402
import serve  # noqa: E402

GIB = limits.GIB


class Sizes(unittest.TestCase):
    def test_units_are_powers_of_1024(self):
        for text, count in (("0", 0), ("7", 7), ("1KiB", 1024), ("64mb", 64 << 20), ("2g", 2 * GIB), (" 3 GiB ", 3 * GIB)):
            self.assertEqual(limits.parse_bytes(text), count)

    def test_anything_else_is_refused(self):
        for text in ("", "-1", "1.5GiB", "GiB", "1TiB", "1 2", "0x10", "1e9", "१MiB2"):
            with self.assertRaises(ValueError, msg=text):
                limits.parse_bytes(text)

    def test_memory_of_an_unreadable_host_is_unknown_and_not_zero(self):
        self.assertIsNone(limits.host_available_bytes("/nonexistent"))
        with tempfile.NamedTemporaryFile("w") as meminfo:
            meminfo.write("MemTotal: 9 kB\nMemAvailable: 5 kB\n")
            meminfo.flush()
            self.assertEqual(limits.host_available_bytes(meminfo.name), 5 * 1024)


class Refusals(unittest.TestCase):
    def check(self, kv, slot=1, free=100 * GIB, host=100 * GIB, large=False):
        limits.check_kv_bytes(kv, slot, free, host, large)

    def test_a_cache_that_fits_is_accepted(self):
        self.check(8 * GIB)
        self.check(9 * GIB, large=True)
        self.check(GIB, free=GIB, host=2 * GIB)

    def test_each_limit_refuses_by_itself(self):
        for arguments in (
            {"kv": GIB, "slot": GIB + 1},
            {"kv": GIB + 1, "free": GIB},
            {"kv": 8 * GIB + 1},
            {"kv": GIB, "host": 2 * GIB - 1},
            {"kv": GIB, "host": None},
        ):
            with self.assertRaises(limits.Refused, msg=str(arguments)):
                self.check(**arguments)

    def test_allow_large_does_not_allow_oversubscription(self):
        with self.assertRaises(limits.Refused):
            self.check(20 * GIB, free=10 * GIB, large=True)


class Arguments(unittest.TestCase):
    def test_defaults(self):
        options = serve.parse_arguments([])
        self.assertEqual((options.requests, options.port, options.kv_bytes), (0, 0, 512 << 20))

    def test_mistakes_end_with_2(self):
        for arguments in (
            ["--requests", "-1"],
            ["--kv-bytes", "many"],
            ["--port", "65536"],
            ["--hidden", "100"],
            ["--offload", "disk"],
            ["--max-tokens", "1024", "--context", "2048"],
            ["--max-tokens", "64", "--context", "64"],
        ):
            with self.assertRaises(SystemExit, msg=str(arguments)) as caught, open(os.devnull, "w") as null:
                stderr, sys.stderr = sys.stderr, null
                try:
                    serve.parse_arguments(arguments)
                finally:
                    sys.stderr = stderr
            self.assertEqual(caught.exception.code, 2)

    def test_without_pytorch_it_says_so_and_points_to_the_demo(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "torch.py"), "w") as module:
                module.write("raise ImportError('not here')\n")
            result = subprocess.run(
                [sys.executable, os.path.join(SERVE, "serve.py"), "--requests", "1"],
                env={**os.environ, "PYTHONPATH": folder}, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("PyTorch cannot be imported", result.stderr)
        self.assertIn("scripts/demo", result.stderr)
        self.assertEqual(result.stdout, "")


class DummyGenerator:
    """Answers with the prompt turned around; 'fail' fails; 'wait' waits until it is released."""

    def __init__(self):
        self.release = threading.Event()
        self.threads = set()

    def generate(self, prompt, max_tokens, session):
        self.threads.add(threading.get_ident())
        if prompt == b"fail":
            raise RuntimeError("out of nonsense")
        if prompt == b"wait":
            self.release.wait(30)
        return {"text": prompt[::-1].decode("utf-8", "replace")[:max_tokens], "session": session}


class Http(unittest.TestCase):
    def setUp(self):
        self.generator = DummyGenerator()
        self.queue = http_api.GenerationQueue(self.generator)
        self.server = http_api.make_server(self.queue, 0)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def tearDown(self):
        self.generator.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        self.queue.close()

    def post(self, body, path="/generate"):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        connection.request("POST", path, body)
        response = connection.getresponse()
        fields = json.loads(response.read())
        connection.close()
        return response.status, fields

    def test_listens_on_loopback_only(self):
        self.assertEqual(self.server.server_address[0], "127.0.0.1")

    def test_health(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        connection.request("GET", "/health")
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()

    def test_answers_come_from_the_generator(self):
        self.assertEqual(self.post('{"prompt": "abc", "session": "s"}'), (200, {"text": "cba", "session": "s"}))
        self.assertEqual(self.post('{"prompt": "abc", "max_tokens": 2}')[1]["text"], "cb")

    def test_requests_that_are_wrong_get_400(self):
        for body in ("", "{", "[]", "null", '{"prompt": ""}', '{"prompt": 1}', '{"prompt": "a", "max_tokens": 0}',
                     '{"prompt": "a", "max_tokens": true}', '{"prompt": "a", "max_tokens": 100000}',
                     '{"prompt": "a", "session": 5}', "[" * 60000, b"\xff\xfe"):
            self.assertEqual(self.post(body)[0], 400, body[:40])
        self.assertEqual(self.generator.threads, set())

    def test_a_lone_surrogate_is_no_crash(self):
        self.assertEqual(self.post('{"prompt": "\\ud800"}')[0], 200)

    def test_a_failing_generator_gives_500_and_the_server_lives_on(self):
        status, fields = self.post('{"prompt": "fail"}')
        self.assertEqual(status, 500)
        self.assertIn("out of nonsense", fields["error"])
        self.assertEqual(self.post('{"prompt": "abc"}')[0], 200)

    def test_unknown_paths_get_404_and_the_connection_can_go_on(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        for path, status in (("/nothing", 404), ("/generate", 200)):
            connection.request("POST", path, '{"prompt": "abc"}')
            response = connection.getresponse()
            response.read()
            self.assertEqual(response.status, status)
        connection.close()

    def test_a_body_without_length_or_too_large_is_not_read(self):
        for length, status in ((None, b"411"), ("x", b"411"), ("-5", b"411"), ("65537", b"413"), ("9" * 30, b"413")):
            with socket.create_connection(("127.0.0.1", self.server.server_port), timeout=30) as connection:
                header = b"" if length is None else f"Content-Length: {length}\r\n".encode()
                connection.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n")
                reply = b""
                while chunk := connection.recv(4096):  # ends: the server closes
                    reply += chunk
            self.assertEqual(reply.split()[1], status, length)

    def test_one_thread_alone_generates(self):
        clients = [threading.Thread(target=self.post, args=('{"prompt": "abc"}',)) for _ in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        self.assertEqual(len(self.generator.threads), 1)

    def test_more_waiting_requests_than_allowed_get_503(self):
        clients = []
        for _ in range(http_api.MAX_WAITING_REQUESTS):
            clients.append(threading.Thread(target=self.post, args=('{"prompt": "wait"}',)))
            clients[-1].start()
        deadline = time.monotonic() + 30
        while self.queue.waiting < http_api.MAX_WAITING_REQUESTS and time.monotonic() < deadline:
            time.sleep(0.01)
        status, _ = self.post('{"prompt": "abc"}')
        self.generator.release.set()
        for client in clients:
            client.join()
        self.assertEqual(status, 503)
        self.assertEqual(self.post('{"prompt": "abc"}')[0], 200)

    def test_the_self_drive_gives_its_answers_in_order(self):
        texts = serve.drive(self.server.server_port, 6, 64)
        self.assertEqual(len(texts), 6)
        self.assertEqual(texts, serve.drive(self.server.server_port, 6, 64))


if __name__ == "__main__":
    unittest.main()
