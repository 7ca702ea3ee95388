"""Continuous batching: requests join and leave the batch between two tokens, and conversations share a KV budget.

A conversation keeps its KV cache between its turns. All of them together may be larger than the budget, which is what the
GPU shall hold of them: then the conversations that were silent longest leave it. With managed memory their pages are
prefetched to the CPU and come back when a kernel reads them. With device memory there is nowhere to go: their cache is
given up, and the next turn reads the whole conversation again. Page-locked memory never was on the GPU.
"""

import collections
import dataclasses
import queue
import threading
import time

MAX_WAITING_REQUESTS = 64


class Busy(Exception):
    """Too many requests are waiting."""


@dataclasses.dataclass
class Phases:
    """Seconds spent; they do not overlap."""

    load: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    offload: float = 0.0
    started: float = dataclasses.field(default_factory=time.monotonic)

    def rows(self):
        busy = {"load": self.load, "prefill": self.prefill, "decode": self.decode, "offload": self.offload}
        busy["idle"] = max(0.0, time.monotonic() - self.started - sum(busy.values()))
        return busy


class Request:
    """One answer in the making. Iterate over it for its bytes, one at a time; then `fields` tells the rest."""

    def __init__(self, prompt, max_tokens, session):
        self.prompt, self.max_tokens, self.session = prompt, max_tokens, session
        self.events = queue.SimpleQueue()
        self.text = bytearray()
        self.fields = None
        self.submitted = time.monotonic()

    def __iter__(self):
        while True:
            event = self.events.get()
            if event is None:
                return
            if isinstance(event, Exception):
                raise event
            yield event


class _Conversation:
    def __init__(self, slot):
        self.slot = slot       # of the KV cache; None: given up
        self.tokens = []       # all that has been read and written
        self.cached = 0        # of them, those in the KV cache
        self.turns = 0
        self.on_gpu = True
        self.active = None     # the request that it is answering


class Engine:
    """Owns the backend: one thread alone talks to the GPU. `backend` as ToyBackend describes it."""

    def __init__(self, backend, phases, batch=8, budget=0, offload="budget", fetch="faults"):
        self._backend, self._phases = backend, phases
        self._batch, self._budget, self._offload, self._fetch = batch, budget, offload, fetch
        self._conversations = collections.OrderedDict()  # by session, least recently used first
        self._free_slots = list(range(backend.slots - 1, -1, -1))
        self._active = []
        self._waiting = collections.deque()
        self._unfinished = 0
        self._changed = threading.Condition(threading.RLock())
        self._closing = False
        self.prompt_tokens = self.generated_tokens = self.recomputed_tokens = self.steps = 0
        self.offloaded_bytes = self.fetched_bytes = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self):
        """Requests that are answered or wait for it."""
        return self._unfinished

    def submit(self, prompt, max_tokens, session):
        room = self._backend.max_tokens - max_tokens
        if room < 1:
            raise ValueError(f"max_tokens {max_tokens} do not fit into a context of {self._backend.max_tokens}")
        request = Request(prompt[-room:], max_tokens, session)
        with self._changed:
            if self._unfinished >= MAX_WAITING_REQUESTS:
                raise Busy(f"{MAX_WAITING_REQUESTS} requests are waiting already")
            self._unfinished += 1
            self._waiting.append(request)
            self._changed.notify()
        return request

    def close(self):
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    # What follows runs on the engine's thread.

    def _run(self):
        self._backend.enter_thread()
        while True:
            with self._changed:
                while not self._waiting and not self._active and not self._closing:
                    self._changed.wait()
                if self._closing and not self._active:
                    for request in self._waiting:
                        self._finish(request, RuntimeError("the server is shutting down"))
                    return
                joining = self._take_joining()
            for request, conversation in joining:
                self._guard([request], lambda r=request, c=conversation: self._prefill(r, c))
            if self._active:
                self._guard([c.active for c in self._active], self._decode)

    def _guard(self, requests, work):
        """Whatever goes wrong ends these requests and not the server."""
        try:
            work()
        except Exception as error:  # pylint: disable=broad-except
            for conversation in list(self._conversations.values()):
                if conversation.active in requests:
                    self._leave(conversation)
                    self._give_up(conversation)
            for request in requests:
                self._finish(request, error)

    def _finish(self, request, error=None):
        with self._changed:
            self._unfinished -= 1
        request.events.put(error)

    def _take_joining(self):
        joining = []
        for request in list(self._waiting):
            if len(self._active) + len(joining) == self._batch:
                break
            conversation = self._conversation(request)
            if conversation is None:
                continue  # its session is busy, or every slot is
            self._waiting.remove(request)
            conversation.active = request
            joining.append((request, conversation))
        return joining

    def _conversation(self, request):
        conversation = self._conversations.get(request.session)
        if conversation is not None and conversation.active is not None:
            return None
        if conversation is None or conversation.slot is None:
            if not self._free_slots:
                silent = next((c for c in self._conversations.values() if c.slot is not None and c.active is None
                               and c is not conversation), None)
                if silent is None:
                    return None
                self._give_up(silent)
            slot = self._free_slots.pop()
            conversation = conversation or _Conversation(slot)
            conversation.slot, conversation.on_gpu = slot, True
        if len(conversation.tokens) + len(request.prompt) + request.max_tokens > self._backend.max_tokens:
            conversation.tokens, conversation.cached = [], 0  # the context would overflow: it begins anew
        self._conversations[request.session] = conversation
        self._conversations.move_to_end(request.session)
        return conversation

    def _give_up(self, conversation):
        if conversation.slot is not None:
            self._free_slots.append(conversation.slot)
        conversation.slot, conversation.cached = None, 0

    def _prefill(self, request, conversation):
        self._make_room(conversation)
        start = time.monotonic()
        if not conversation.on_gpu and self._fetch == "prefetch":
            self.fetched_bytes += self._backend.bring_in(conversation.slot, conversation.cached)
        conversation.on_gpu = True
        self.recomputed_tokens += max(0, len(conversation.tokens) - conversation.cached - 1)
        conversation.tokens += request.prompt
        new_tokens = conversation.tokens[conversation.cached:]
        sampler = self._backend.sampler(request.session, conversation.turns)
        request.sampler = sampler
        token = self._backend.prefill(conversation.slot, conversation.cached, new_tokens, sampler)
        conversation.cached = len(conversation.tokens)
        self.prompt_tokens += len(request.prompt)
        self._phases.prefill += time.monotonic() - start
        self._active.append(conversation)
        self._give_token(conversation, token)

    def _decode(self):
        start = time.monotonic()
        batch = list(self._active)
        tokens = self._backend.decode([(c.slot, c.cached, c.tokens[-1], c.active.sampler) for c in batch])
        self.steps += 1
        for conversation in batch:
            conversation.cached += 1
        self._phases.decode += time.monotonic() - start
        for conversation, token in zip(batch, tokens):
            self._give_token(conversation, token)

    def _give_token(self, conversation, token):
        request = conversation.active
        conversation.tokens.append(token)
        request.text.append(token)
        request.events.put(bytes([token]))
        self.generated_tokens += 1
        if len(request.text) < request.max_tokens:
            return
        conversation.turns += 1
        request.fields = {"text": request.text.decode("ascii"), "session": request.session, "turn": conversation.turns,
                          "context_tokens": len(conversation.tokens),
                          "seconds": round(time.monotonic() - request.submitted, 6)}
        self._leave(conversation)
        if self._offload == "cpu":
            self._send_out(conversation)
        self._finish(request)

    def _leave(self, conversation):
        conversation.active = None
        with self._changed:
            if conversation in self._active:
                self._active.remove(conversation)

    def _make_room(self, coming):
        """Silent conversations leave the GPU, the longest silent first, until the rest fits the budget."""
        if self._offload != "budget":
            return
        on_gpu = [c for c in self._conversations.values() if c.slot is not None and (c.on_gpu or c is coming)]
        size = sum(self._backend.cache_bytes(len(c.tokens) + self._growth(c)) for c in on_gpu)
        for conversation in on_gpu:
            if size <= self._budget:
                return
            if conversation.active is None and conversation is not coming:
                size -= self._backend.cache_bytes(len(conversation.tokens))
                self._send_out(conversation)

    @staticmethod
    def _growth(conversation):
        """Tokens that the answer in the making will add."""
        request = conversation.active
        if request is None:
            return 0
        return request.max_tokens - len(request.text) + (0 if request.text else len(request.prompt))

    def _send_out(self, conversation):
        start = time.monotonic()
        if self._backend.kind == "managed":
            self.offloaded_bytes += self._backend.send_out(conversation.slot, conversation.cached)
            conversation.on_gpu = False
        elif self._backend.kind == "device":
            self._give_up(conversation)
        self._phases.offload += time.monotonic() - start
