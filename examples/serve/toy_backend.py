"""A model that needs no PyTorch: each next token is a function of everything in the conversation's KV cache.

Its memory traffic is a transformer's: a token's keys and values are written once and read again for every further token
of the conversation. Its arithmetic is not, so its answers can be checked: the sum over a conversation's cache is known
here, and a cache that came back stale or from another conversation gives another sum. Runs on a GPU and, because its
kernels are registered with the simulator (toy_decoder.cu), without one.
"""

import ctypes
import os

HERE = os.path.dirname(os.path.abspath(__file__))
MASK = (1 << 64) - 1
KINDS = {"managed": 0, "pinned": 1, "device": 2}


def find_library():
    repository = os.path.dirname(os.path.dirname(HERE))
    folders = [HERE, os.path.dirname(HERE)]
    folders += [os.path.join(repository, "build", preset, "bin", "examples") for preset in ("default", "release")]
    override = os.environ.get("UVM_TOY_DECODER")
    for path in [override] if override else [os.path.join(folder, "toy_decoder.so") for folder in folders]:
        if os.path.exists(path):
            return path
    raise FileNotFoundError("toy_decoder.so is not built: build uvmtrace first (cmake), or set UVM_TOY_DECODER")


def device_free_bytes():
    library = ctypes.CDLL(find_library())
    library.toy_free_bytes.restype = ctypes.c_uint64
    return library.toy_free_bytes()


def mix(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


class WrongCache(Exception):
    """The KV cache does not hold what was written."""


class ToyBackend:
    """The interface that the engine needs: slots, max_tokens, kind, and the methods without underscore."""

    def __init__(self, kind, slots, max_tokens, token_bytes, seed):
        self.kind, self.slots, self.max_tokens = kind, slots, max_tokens
        self._words = token_bytes // 8
        self._token_bytes = token_bytes
        self._seed = seed
        self._sums = {}  # by slot: what the cache must add up to
        self._library = library = ctypes.CDLL(find_library())
        library.toy_open.restype = ctypes.c_char_p
        library.toy_append.restype = library.toy_attend.restype = library.toy_prefetch.restype = ctypes.c_char_p
        library.toy_open.argtypes = [ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64]
        library.toy_append.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64), ctypes.c_uint64]
        library.toy_attend.argtypes = [ctypes.POINTER(ctypes.c_uint64)] * 3 + [ctypes.c_uint64]
        library.toy_prefetch.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int]
        self._check(library.toy_open(KINDS[kind], slots, max_tokens, token_bytes))

    def enter_thread(self):
        pass

    def cache_bytes(self, tokens):
        return tokens * self._token_bytes

    def sampler(self, session, turn):
        return None

    def prefill(self, slot, start, tokens, sampler):
        if start == 0:
            self._sums[slot] = 0
        self._append(slot, start, tokens)
        return self._attend([(slot, start + len(tokens))])[0]

    def decode(self, entries):
        for slot, position, token, _ in entries:
            self._append(slot, position, [token])
        return self._attend([(slot, position + 1) for slot, position, _, _ in entries])

    def send_out(self, slot, tokens):
        self._check(self._library.toy_prefetch(slot, tokens, -1))
        return self.cache_bytes(tokens)

    def bring_in(self, slot, tokens):
        self._check(self._library.toy_prefetch(slot, tokens, 0))
        return self.cache_bytes(tokens)

    def close(self):
        self._library.toy_close()

    def _append(self, slot, start, tokens):
        words = [mix((token << 32 | start + i) ^ self._seed) for i, token in enumerate(tokens)]
        # Word i of a token in the cache is its first word plus i: the sum over it needs no loop.
        for word in words:
            self._sums[slot] = (self._sums[slot] + self._words * word + self._words * (self._words - 1) // 2) & MASK
        self._check(self._library.toy_append(slot, start, (ctypes.c_uint64 * len(words))(*words), len(words)))

    def _attend(self, pairs):
        count = len(pairs)
        slots = (ctypes.c_uint64 * count)(*[slot for slot, _ in pairs])
        lengths = (ctypes.c_uint64 * count)(*[length for _, length in pairs])
        sums = (ctypes.c_uint64 * count)()
        self._check(self._library.toy_attend(slots, lengths, sums, count))
        for (slot, length), found in zip(pairs, sums):
            if found != self._sums[slot]:
                raise WrongCache(f"slot {slot}, {length} tokens: the cache adds up to {found:016x}, not "
                                 f"{self._sums[slot]:016x}")
        return [32 + mix(found) % 95 for found in sums]  # a printable byte

    @staticmethod
    def _check(message):
        if message:
            raise RuntimeError(message.decode())
