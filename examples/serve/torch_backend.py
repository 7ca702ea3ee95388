"""The transformer as a backend of the engine. The interface is described in toy_backend.py, by the class that has it."""

import functools
import hashlib

import torch

import kv_cache
import transformer


@functools.lru_cache(maxsize=1)
def _weights(config, dtype, seed):
    """Kept, because making them takes longer than loading them: serve.py --compare loads them five times."""
    return [weight.to(dtype) for weight in transformer.random_weights(config, seed)]


class TorchBackend:
    def __init__(self, kind, slots, max_tokens, config, seed):
        self.kind, self.slots, self.max_tokens = kind, slots, max_tokens
        self._device = "cuda:0"
        self._seed = seed
        dtype = torch.bfloat16
        self._bytes_per_token = config.kv_bytes_per_token(dtype.itemsize)
        memory = kv_cache.CacheMemory(kv_cache.find_or_build_allocator(), 0, kind)
        self._cache = kv_cache.KvCache(memory, config, slots, max_tokens, dtype)
        self._model = transformer.Transformer(config, self._device, dtype, _weights(config, dtype, seed))
        # Of all generated tokens: finer than the text, in which a small error in the cache need not show.
        self.log_probability = 0.0
        torch.cuda.synchronize()

    def enter_thread(self):
        torch.cuda.set_device(0)
        torch.set_grad_enabled(False)  # a thread's own setting

    def cache_bytes(self, tokens):
        return tokens * self._bytes_per_token

    def sampler(self, session, turn):
        digest = hashlib.sha256(f"{self._seed}/{session}/{turn}".encode()).digest()
        return torch.Generator(device=self._device).manual_seed(int.from_bytes(digest[:7], "little"))

    # Ranges for profilers, as the C++ examples have them.
    @torch.cuda.nvtx.range("serve: prefill")
    def prefill(self, slot, start, tokens, sampler):
        values = torch.tensor(list(tokens), dtype=torch.long, device=self._device)
        logits = self._model.forward(values, self._cache, slot, start)
        return self._sample(logits.unsqueeze(0), [sampler])[0]

    @torch.cuda.nvtx.range("serve: decode")
    def decode(self, entries):
        slots = [slot for slot, _, _, _ in entries]
        positions = [position for _, position, _, _ in entries]
        tokens = torch.tensor([token for _, _, token, _ in entries], dtype=torch.long, device=self._device)
        logits = self._model.forward_each(tokens, self._cache, slots, positions)
        return self._sample(logits, [sampler for _, _, _, sampler in entries])

    def send_out(self, slot, tokens):
        return self._cache.move(slot, tokens, kv_cache.CPU)

    def bring_in(self, slot, tokens):
        return self._cache.move(slot, tokens, 0)

    def close(self):
        self._cache.close()

    def _sample(self, logits, samplers):
        probabilities = torch.softmax(logits, dim=-1)
        chosen = torch.cat([torch.multinomial(row, 1, generator=sampler) for row, sampler in zip(probabilities, samplers)])
        self.log_probability += float(torch.log(probabilities.gather(1, chosen.unsqueeze(1))).sum())
        return chosen.tolist()  # waits for the GPU
