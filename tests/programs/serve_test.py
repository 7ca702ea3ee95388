"""The parts of examples/serve that need neither PyTorch nor a GPU: arguments, refusals, batching and HTTP with a dummy model."""

import contextlib
import http.client
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import unittest

SERVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "serve")
sys.path.insert(0, SERVE)

import engine  # noqa: E402
import http_api  # noqa: E402
import limits  # noqa: E402
import load  # noqa: E402
import machine  # noqa: E402
import serve  # noqa: E402
import weights_in_place  # noqa: E402

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

    def test_the_flag_that_other_examples_have_allows_more_than_the_gpu_has(self):
        options = serve.parse_arguments(["--kv-bytes", "1GiB", "--context", "16", "--max-tokens", "8"])
        with self.assertRaises(limits.Refused):
            serve.slots_of(options, 1024, 512 << 20)
        options.allow_oversubscription = True
        out, sys.stdout = sys.stdout, open(os.devnull, "w")
        try:
            self.assertEqual(serve.slots_of(options, 1024, 512 << 20), 65536)
        finally:
            sys.stdout.close()
            sys.stdout = out

    def test_allow_large_does_not_allow_oversubscription(self):
        with self.assertRaises(limits.Refused):
            self.check(20 * GIB, free=10 * GIB, large=True)


class Arguments(unittest.TestCase):
    def test_defaults(self):
        options = serve.parse_arguments([])
        self.assertEqual((options.requests, options.port, options.kv_bytes), (0, 0, 512 << 20))

    def test_quick_is_another_default_and_what_is_asked_for_counts(self):
        for arguments in (["--quick", "--layers", "2"], ["--layers", "2", "--quick"]):
            options = serve.parse_arguments(arguments)
            self.assertEqual((options.layers, options.requests, options.kv_bytes), (2, 24, 256 << 20))
        weights = weights_in_place.parse_arguments(["--quick", "--tokens", "3"])
        self.assertEqual((weights.tokens, weights.layers), (3, weights_in_place.QUICK["layers"]))

    def test_mistakes_end_with_2(self):
        for arguments in (
            ["--requests", "-1"],
            ["--kv-bytes", "many"],
            ["--port", "65536"],
            ["--hidden", "100"],
            ["--offload", "disk"],
            ["--max-tokens", "1024", "--context", "2048"],
            ["--max-tokens", "64", "--context", "64"],
            ["--compare"],
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


class FakeWeight:
    """As much of a tensor as weights_in_place.py looks at."""

    shape = (2, 2)

    def __init__(self, value=0):
        self.value = value

    def numel(self):
        return 4

    def to(self, *_):
        return self

    contiguous = pin_memory = argmax = to

    def view(self, *_):
        return self

    def data_ptr(self):
        return 4096

    def copy_(self, _):
        pass

    def __getitem__(self, _):
        return self

    def __int__(self):
        return self.value


class FakeCuda(types.SimpleNamespace):
    """Modules in place of torch, transformer and kv_cache: what they are asked for, in order."""

    def __init__(self, texts):
        super().__init__(asked=[])
        asked = self.asked

        class Transformer:
            def __init__(self, config, device, dtype, weights, place):
                self.placed = [place(weight) for weight in weights]
                self.text = iter(next(texts))

            def forward(self, *_):
                return FakeWeight(next(self.text))

        class Memory:
            def __init__(self, library, device, kind):
                self.kind = kind

            def empty(self, *_):
                return FakeWeight()

            def prefetch(self, _, device):
                asked.append(("prefetch", device))

            def close(self):
                asked.append(("close", self.kind))

        nothing = contextlib.nullcontext
        self.torch = types.SimpleNamespace(
            __version__="fake", version=types.SimpleNamespace(cuda="13.0"), bfloat16="bfloat16", inference_mode=nothing,
            tensor=lambda *_, **__: FakeWeight(), as_tensor=lambda *_, **__: FakeWeight(),
            cuda=types.SimpleNamespace(
                mem_get_info=lambda _: (1 << 30, 1 << 30), get_device_name=lambda _: "Fake GPU", synchronize=lambda: None,
                empty_cache=lambda: None,
                nvtx=types.SimpleNamespace(range=lambda name: asked.append(("range", name)) or nothing())))
        self.transformer = types.SimpleNamespace(
            VOCABULARY=4, Config=lambda **fields: types.SimpleNamespace(**fields), Transformer=Transformer,
            random_weights=lambda config, seed: iter([FakeWeight(), FakeWeight()]))
        self.kv_cache = types.SimpleNamespace(find_or_build_allocator=lambda: "library", CacheMemory=Memory,
                                              KvCache=lambda memory, *_: memory)


class WeightsInPlace(unittest.TestCase):
    def run_it(self, arguments, texts=None):
        """(exit code, JSON, what it printed, the fake)"""
        fake = FakeCuda(iter(texts or [[7, 8]] * 100))
        modules = {"transformer": fake.transformer, "kv_cache": fake.kv_cache}
        kept = {name: sys.modules.get(name) for name in modules}
        kept_torch, kept_setup, kept_host = serve.require_torch, machine.setup, limits.host_available_bytes
        sys.modules.update(modules)
        serve.require_torch, machine.setup = lambda: fake.torch, lambda free_bytes: {"gpu": "Fake GPU", "free": free_bytes}
        limits.host_available_bytes = lambda: 64 * GIB
        printed = io.StringIO()
        try:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed), \
                    contextlib.redirect_stderr(printed):
                path = os.path.join(folder, "weights.json")
                code = weights_in_place.main([*arguments, "--tokens", "2", "--layers", "1", "--hidden", "64", "--json", path])
                data = json.load(open(path, encoding="utf-8")) if os.path.exists(path) else None
        finally:
            serve.require_torch, machine.setup, limits.host_available_bytes = kept_torch, kept_setup, kept_host
            for name, module in kept.items():
                if module is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module
        return code, data, printed.getvalue(), fake

    def test_without_a_choice_all_kinds_run_in_turn_and_their_texts_are_compared(self):
        code, data, printed, fake = self.run_it(["--repeat", "2"])
        self.assertEqual(code, 0, printed)
        self.assertEqual([(row["weights"], row["repetition"]) for row in data["rows"]],
                         [(kind, turn) for turn in (0, 1) for kind in weights_in_place.KINDS])
        self.assertEqual(data["setup"]["gpu"], "Fake GPU")
        self.assertIn("data: ok", printed)
        self.assertIn(("range", "zero-copy: loading"), fake.asked)
        self.assertIn(("range", "managed: token"), fake.asked)
        self.assertEqual(fake.asked.count(("close", "managed")), 2, "managed memory is kept while the next kind runs")

    def test_another_text_from_one_kind_of_memory_is_wrong_data(self):
        code, data, printed, _ = self.run_it([], [[7, 8], [7, 9], [7, 8]])
        self.assertEqual(code, 1)
        self.assertIsNone(data)
        self.assertIn("different texts", printed)

    def test_managed_weights_begin_on_the_host(self):
        self.assertEqual(self.run_it(["--weights", "managed"])[3].asked.count(("prefetch", -1)), 2)

    def test_what_does_not_fit_is_refused(self):
        code, _, printed, _ = self.run_it(["--capacity", "64KiB"])
        self.assertEqual(code, 2, printed)
        self.assertIn("--allow-oversubscription", printed)
        self.assertEqual(self.run_it(["--capacity", "64KiB", "--allow-oversubscription"])[0], 0)

    def test_mistakes_end_with_2(self):
        for arguments in (["--weights", "paper"], ["--hidden", "100"], ["--repeat", "0"], ["--capacity", "lots"]):
            with self.assertRaises(SystemExit, msg=str(arguments)) as caught, contextlib.redirect_stderr(io.StringIO()):
                weights_in_place.parse_arguments(arguments)
            self.assertEqual(caught.exception.code, 2)


class DummyBackend:
    """Answers with the prompt's bytes in turn; 'fail' fails; 'wait' waits until it is released. Records what it is asked."""

    kind = "managed"

    def __init__(self, slots=4, max_tokens=1024):
        self.slots, self.max_tokens = slots, max_tokens
        self.release = threading.Event()
        self.threads = set()
        self.batches = []
        self.moves = []
        self.contents = {}  # by slot: the tokens whose keys and values are in the cache

    def enter_thread(self):
        self.threads.add(threading.get_ident())

    def cache_bytes(self, tokens):
        return tokens

    def sampler(self, session, turn):
        return None

    def prefill(self, slot, start, tokens, sampler):
        self.threads.add(threading.get_ident())
        if bytes(tokens) == b"fail":
            raise RuntimeError("out of nonsense")
        if bytes(tokens) == b"wait":
            self.release.wait(30)
        self.contents[slot] = self.contents.get(slot, [])[:start] + list(tokens)
        assert len(self.contents[slot]) == start + len(tokens), "a prefill that leaves a hole"
        return self._next(slot)

    def decode(self, entries):
        self.batches.append(len(entries))
        for slot, position, token, _ in entries:
            assert len(self.contents[slot]) == position, "a token at the wrong position"
            self.contents[slot].append(token)
        return [self._next(slot) for slot, _, _, _ in entries]

    def _next(self, slot):
        return 97 + sum(self.contents[slot]) % 26  # of all that the cache holds: another cache gives another text

    def send_out(self, slot, tokens):
        self.moves.append(("out", slot, tokens))
        return tokens

    def bring_in(self, slot, tokens):
        self.moves.append(("in", slot, tokens))
        return tokens


def generate(the_engine, prompt, count, session):
    request = the_engine.submit(prompt, count, session)
    return b"".join(request).decode()


class Batching(unittest.TestCase):
    def make(self, backend, **options):
        the_engine = engine.Engine(backend, engine.Phases(), **options)
        self.addCleanup(the_engine.close)
        return the_engine

    def test_conversations_are_decoded_together_and_answer_as_they_would_alone(self):
        prompts = [(b"one", "a"), (b"two two", "b"), (b"three three three", "c")]
        alone = [generate(self.make(DummyBackend()), prompt, 20, session) for prompt, session in prompts]
        backend = DummyBackend()
        the_engine = self.make(backend)
        requests = [the_engine.submit(prompt, 20, session) for prompt, session in prompts]
        self.assertEqual([b"".join(request).decode() for request in requests], alone)
        self.assertGreater(max(backend.batches), 1)

    def test_a_batch_has_a_limit(self):
        backend = DummyBackend()
        the_engine = self.make(backend, batch=2)
        for request in [the_engine.submit(b"x", 10, str(i)) for i in range(4)]:
            list(request)
        self.assertEqual(max(backend.batches), 2)

    def test_turns_of_one_session_never_overlap(self):
        the_engine = self.make(DummyBackend())
        first, second = the_engine.submit(b"one", 10, "s"), the_engine.submit(b"two", 10, "s")
        list(first), list(second)
        self.assertEqual((first.fields["turn"], second.fields["turn"]), (1, 2))
        self.assertEqual(second.fields["context_tokens"], 3 + 10 + 3 + 10)

    def test_the_longest_silent_conversation_leaves_when_the_budget_is_exceeded(self):
        backend = DummyBackend()
        the_engine = self.make(backend, budget=30)
        for session in ("a", "b", "c"):
            generate(the_engine, b"0123456789", 5, session)
        # 15 tokens each: the third does not fit beside the first two. Its last token's keys are not written yet.
        self.assertEqual(backend.moves, [("out", 0, 14)])

    def test_each_turn_leaves_with_offload_cpu_and_comes_back_by_prefetch(self):
        backend = DummyBackend()
        the_engine = self.make(backend, offload="cpu", fetch="prefetch")
        generate(the_engine, b"abc", 4, "a")
        generate(the_engine, b"abc", 4, "a")
        self.assertEqual([move[0] for move in backend.moves], ["out", "in", "out"])

    def test_device_memory_gives_the_cache_up_and_the_text_is_the_same(self):
        kept = self.make(DummyBackend())
        expected = [generate(kept, b"abc", 6, "a"), generate(kept, b"def", 6, "b"), generate(kept, b"ghi", 6, "a")]
        backend = DummyBackend(slots=1)
        backend.kind = "device"
        tight = self.make(backend, budget=0)
        found = [generate(tight, b"abc", 6, "a"), generate(tight, b"def", 6, "b"), generate(tight, b"ghi", 6, "a")]
        self.assertEqual(found, expected)
        self.assertGreater(tight.recomputed_tokens, 0)
        self.assertEqual(backend.moves, [])

    def test_a_context_that_is_full_begins_anew(self):
        the_engine = self.make(DummyBackend(max_tokens=32))
        for _ in range(4):
            request = the_engine.submit(b"x" * 10, 8, "s")
            list(request)
            self.assertLessEqual(request.fields["context_tokens"], 32)

    def test_a_failure_ends_its_request_and_no_other(self):
        the_engine = self.make(DummyBackend())
        with self.assertRaises(RuntimeError):
            generate(the_engine, b"fail", 5, "a")
        self.assertEqual(len(generate(the_engine, b"abc", 5, "a")), 5)


class Http(unittest.TestCase):
    def setUp(self):
        self.backend = DummyBackend(slots=100)
        self.engine = engine.Engine(self.backend, engine.Phases(), batch=64)
        self.server = http_api.make_server(self.engine, 0)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def tearDown(self):
        self.backend.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        self.engine.close()

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

    def test_answers_come_from_the_model(self):
        status, fields = self.post('{"prompt": "abc", "session": "s", "max_tokens": 5}')
        self.assertEqual((status, len(fields["text"]), fields["session"], fields["turn"]), (200, 5, "s", 1))

    def test_a_stream_has_each_token_and_then_the_whole(self):
        whole = self.post('{"prompt": "abc", "max_tokens": 7, "session": "a"}')[1]["text"]
        answer = load.ask(self.server.server_port, "abc", 7, "b")
        self.assertEqual(answer.text, whole)
        self.assertEqual(len(answer.gaps), 6)
        self.assertLessEqual(answer.first_token_seconds, answer.seconds)

    def test_an_error_in_a_stream_is_an_event(self):
        with self.assertRaisesRegex(RuntimeError, "out of nonsense"):
            load.ask(self.server.server_port, "fail", 5, "s")
        self.assertEqual(self.post('{"prompt": "abc"}')[0], 200)

    def test_a_client_that_leaves_during_its_stream_hurts_nobody(self):
        with socket.create_connection(("127.0.0.1", self.server.server_port), timeout=30) as connection:
            body = b'{"prompt": "abc", "max_tokens": 500, "stream": true}'
            connection.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            connection.recv(16)
        self.assertEqual(self.post('{"prompt": "abc", "session": "t"}')[0], 200)

    def test_requests_that_are_wrong_get_400(self):
        for body in ("", "{", "[]", "null", '{"prompt": ""}', '{"prompt": 1}', '{"prompt": "a", "max_tokens": 0}',
                     '{"prompt": "a", "max_tokens": true}', '{"prompt": "a", "max_tokens": 100000}',
                     '{"prompt": "a", "session": 5}', '{"prompt": "a", "stream": 1}', "[" * 60000, b"\xff\xfe"):
            self.assertEqual(self.post(body)[0], 400, body[:40])
        self.assertEqual(self.backend.contents, {})

    def test_a_lone_surrogate_is_no_crash(self):
        self.assertEqual(self.post('{"prompt": "\\ud800"}')[0], 200)

    def test_a_failing_model_gives_500_and_the_server_lives_on(self):
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
        clients = [threading.Thread(target=self.post, args=('{"prompt": "abc", "session": "%d"}' % i,)) for i in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        self.assertEqual(len(self.backend.threads), 1)

    def test_more_waiting_requests_than_allowed_get_503(self):
        clients = []
        for _ in range(http_api.MAX_WAITING_REQUESTS):
            clients.append(threading.Thread(target=self.post, args=('{"prompt": "wait"}',)))
            clients[-1].start()
        deadline = time.monotonic() + 30
        while self.engine.waiting < http_api.MAX_WAITING_REQUESTS and time.monotonic() < deadline:
            time.sleep(0.01)
        status, _ = self.post('{"prompt": "abc"}')
        self.backend.release.set()
        for client in clients:
            client.join()
        self.assertEqual(status, 503)
        self.assertEqual(self.post('{"prompt": "abc"}')[0], 200)

    def test_the_load_generator_gives_its_answers_in_order(self):
        answers, seconds = load.drive(self.server.server_port, 6, 16)
        self.assertEqual([len(answer.text) for answer in answers], [16] * 6)
        result = load.summary(answers, seconds)
        self.assertEqual((result["answers"], result["tokens"]), (6, 96))
        self.assertLessEqual(result["first_token_p50_ms"], result["answer_p99_ms"])

    def test_clients_at_the_same_time_get_the_answers_that_one_client_gets(self):
        one = [answer.text for answer in load.drive(self.server.server_port, 8, 16)[0]]
        with_others = engine.Engine(DummyBackend(slots=100), engine.Phases())
        server = http_api.make_server(with_others, 0)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            many = [answer.text for answer in load.drive(server.server_port, 8, 16, clients=4)[0]]
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            with_others.close()
        self.assertEqual(many, one)


class Quick(unittest.TestCase):
    """The load of --quick, which exists so that `--compare` ends within a minute where a decode step takes 10 ms."""

    def drive(self, kind):
        options = serve.parse_arguments(["--quick"])
        bytes_per_token = 2 * options.layers * options.hidden * 2
        kv_bytes = options.kv_budget if kind == "device" else options.kv_bytes
        backend = DummyBackend(slots=kv_bytes // (options.context * bytes_per_token), max_tokens=options.context)
        backend.kind = kind
        backend.cache_bytes = lambda tokens: tokens * bytes_per_token
        the_engine = engine.Engine(backend, engine.Phases(), options.batch, options.kv_budget)
        server = http_api.make_server(the_engine, 0)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            answers, _ = load.drive(server.server_port, options.requests, options.max_tokens, options.clients,
                                    options.sessions)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            the_engine.close()
        return options, backend, the_engine, sum(len(answer.text) for answer in answers)

    def test_it_is_short_and_conversations_still_leave_and_come_back(self):
        options, backend, the_engine, tokens = self.drive("managed")
        self.assertEqual(tokens, options.requests * options.max_tokens)
        self.assertLessEqual(tokens, 600)
        self.assertLessEqual(options.kv_bytes, GIB)
        self.assertGreater(len([move for move in backend.moves if move[0] == "out"]), 2)
        turns = options.requests // options.sessions
        longest = turns * (len(load.prompt_of(0, 0)) + options.max_tokens)
        self.assertLessEqual(longest, options.context, "a conversation would begin anew")
        self.assertEqual(the_engine.recomputed_tokens, 0)

    def test_in_device_memory_what_left_is_read_again(self):
        _, backend, the_engine, _ = self.drive("device")
        self.assertGreater(backend.slots, 1, "nothing is decoded together")
        self.assertGreater(the_engine.recomputed_tokens, 0)


class Compare(unittest.TestCase):
    def test_a_way_that_fails_leaves_the_rows_of_those_before_it(self):
        def one_way(way, options):
            if way == "managed-stays":
                raise RuntimeError("no memory")
            return {"gpu": "Fake GPU"}, [{"way": way}]

        kept, serve.serve_one_way = serve.serve_one_way, one_way
        try:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), \
                    contextlib.redirect_stderr(io.StringIO()):
                path = os.path.join(folder, "rows.json")
                code = serve.main(["--model", "toy", "--quick", "--compare", "--json", path])
                with open(path, encoding="utf-8") as file:
                    rows = json.load(file)["rows"]
        finally:
            serve.serve_one_way = kept
        self.assertEqual(code, serve.EXIT_FAILED)
        self.assertEqual([row["way"] for row in rows], ["managed-faults", "managed-prefetch"])


class Percentiles(unittest.TestCase):
    def test_nearest_rank(self):
        values = list(range(1, 101))
        self.assertEqual([load.percentile(values, percent) for percent in (50, 90, 99)], [50, 90, 99])
        self.assertEqual(load.percentile([7], 99), 7)
        self.assertIsNone(load.percentile([], 50))


if __name__ == "__main__":
    unittest.main()
