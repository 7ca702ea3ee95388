"""Conversations: which owns which slot of the KV cache, and what each phase of an answer costs."""

import collections
import dataclasses
import hashlib
import time

import torch


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


@dataclasses.dataclass
class _Conversation:
    slot: int
    tokens: int = 0  # positions of the slot that are filled
    turns: int = 0


class TextGenerator:
    """generate() is called by one thread at a time."""

    def __init__(self, model, cache, device, seed, offload, phases):
        self._model = model
        self._cache = cache
        self._device = device
        self._seed = seed
        self._offload = offload
        self._phases = phases
        self._conversations = collections.OrderedDict()  # by session, least recently used first
        self._free_slots = list(range(cache.slots - 1, -1, -1))
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.offloaded_bytes = 0
        # Of all generated tokens: finer than the text, in which a small error in the cache need not show.
        self.log_probability = 0.0

    @torch.inference_mode()
    def generate(self, prompt, max_tokens, session):
        """Continues a conversation. The same turns in the same order give the same text."""
        room = self._cache.max_tokens - max_tokens
        if room < 1:
            raise ValueError(f"max_tokens {max_tokens} do not fit into a context of {self._cache.max_tokens}")
        prompt = prompt[-room:]
        conversation = self._conversation(session, len(prompt) + max_tokens)
        sampler = self._sampler(session, conversation.turns)

        start = time.monotonic()
        tokens = torch.tensor(list(prompt), dtype=torch.long, device=self._device)
        logits = self._model.forward(tokens, self._cache, conversation.slot, conversation.tokens)
        conversation.tokens += len(prompt)
        token, total_log_probability = self._sample(logits, sampler)
        text = bytearray([int(token)])  # waits for the GPU
        prefilled = time.monotonic()
        for _ in range(max_tokens - 1):
            logits = self._model.forward(token, self._cache, conversation.slot, conversation.tokens)
            conversation.tokens += 1
            token, log_probability = self._sample(logits, sampler)
            total_log_probability = total_log_probability + log_probability
            text.append(int(token))
        decoded = time.monotonic()
        conversation.turns += 1

        self._phases.prefill += prefilled - start
        self._phases.decode += decoded - prefilled
        self.prompt_tokens += len(prompt)
        self.generated_tokens += max_tokens
        self.log_probability += float(total_log_probability)
        if self._offload:
            self.offloaded_bytes += self._cache.offload(conversation.slot, conversation.tokens)
            self._phases.offload += time.monotonic() - decoded
        return {
            "text": text.decode("ascii"),
            "session": session,
            "turn": conversation.turns,
            "context_tokens": conversation.tokens,
            "prefill_ms": round((prefilled - start) * 1e3, 3),
            "decode_ms": round((decoded - prefilled) * 1e3, 3),
        }

    def _conversation(self, session, tokens_needed):
        """The session's conversation, or a new one in its place when the context would overflow."""
        conversation = self._conversations.pop(session, None)
        if conversation is None:
            if not self._free_slots:
                _, forgotten = self._conversations.popitem(last=False)
                self._free_slots.append(forgotten.slot)
            conversation = _Conversation(self._free_slots.pop())
        elif conversation.tokens + tokens_needed > self._cache.max_tokens:
            conversation = _Conversation(conversation.slot, turns=conversation.turns)
        self._conversations[session] = conversation
        return conversation

    def _sampler(self, session, turn):
        digest = hashlib.sha256(f"{self._seed}/{session}/{turn}".encode()).digest()
        return torch.Generator(device=self._device).manual_seed(int.from_bytes(digest[:7], "little"))

    @staticmethod
    def _sample(logits, sampler):
        """(token [1], its log probability [1]), both still on the GPU."""
        token = torch.multinomial(torch.softmax(logits, dim=-1), 1, generator=sampler)
        return token, torch.log_softmax(logits, dim=-1)[token]
