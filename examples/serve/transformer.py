"""A small decoder-only transformer over bytes with random weights.

It generates nonsense, at the cost and with the memory traffic of sense: what matters here is that keys and values are
written once for each position and all read again for each further token.
"""

import dataclasses
import math

import torch
import torch.nn.functional as functional

VOCABULARY = 256
FIRST_PRINTABLE, LAST_PRINTABLE = 32, 126


@dataclasses.dataclass(frozen=True)
class Config:
    layers: int = 8
    hidden: int = 1024
    heads: int = 16

    @property
    def head_size(self):
        return self.hidden // self.heads

    def kv_bytes_per_token(self, bytes_per_element):
        return 2 * self.layers * self.hidden * bytes_per_element


def random_weights(config, seed):
    """The weights of a Transformer in the order in which it takes them, made on the CPU: the same ones on every GPU."""
    generator = torch.Generator().manual_seed(seed)
    hidden, scale = config.hidden, 1 / math.sqrt(config.hidden)

    def weight(rows, columns, factor):
        return torch.randn(rows, columns, generator=generator) * factor

    yield weight(VOCABULARY, hidden, 1.0)
    for _ in range(config.layers):
        yield weight(3 * hidden, hidden, scale)
        yield weight(hidden, hidden, scale)
        yield weight(4 * hidden, hidden, scale)
        yield weight(hidden, 4 * hidden, scale / 2)
    # Its own matrix and not the embedding again: with random weights that would repeat the last byte for ever, and the
    # text would say nothing about the cache.
    yield weight(VOCABULARY, hidden, 2 * scale)


class Transformer:
    """`device` and `dtype` as for torch.empty. `weights` are those of random_weights, or a copy of them. `place` puts one
    of them, of the dtype and still on the CPU, where it shall live; without it weights are normal device memory."""

    def __init__(self, config, device, dtype, weights, place=None):
        self.config = config
        self._device = device
        self._dtype = dtype
        weights = iter(weights)

        def take():
            values = next(weights)
            return values.to(device=device, dtype=dtype) if place is None else place(values.to(dtype=dtype))

        self._embedding = take()
        self._layers = [{name: take() for name in ("qkv", "out", "up", "down")} for _ in range(config.layers)]
        self._unembedding = take()
        # Only printable bytes may be drawn, so that the answer can be looked at.
        self._mask = torch.full((VOCABULARY,), -math.inf, device=device)
        self._mask[FIRST_PRINTABLE : LAST_PRINTABLE + 1] = 0

    def forward(self, tokens, cache, slot, start):
        """Runs `tokens` [count] at positions start, start + 1, ... of a slot; returns the last one's logits [256]."""
        config = self.config
        count = tokens.shape[0]
        x = self._embedding[tokens] + self._positions(start, count)
        mask = self._causal_mask(start, count)
        for index, layer in enumerate(self._layers):
            qkv = functional.linear(self._normalise(x), layer["qkv"]).view(count, 3, config.heads, config.head_size)
            cache.write(slot, index, start, qkv[:, 1], qkv[:, 2])
            keys, values = cache.read(slot, index, start + count)
            attended = functional.scaled_dot_product_attention(
                qkv[:, 0].transpose(0, 1).unsqueeze(0),
                keys.transpose(0, 1).unsqueeze(0),
                values.transpose(0, 1).unsqueeze(0),
                attn_mask=mask,
            )
            attended = attended.squeeze(0).transpose(0, 1).reshape(count, config.hidden)
            x = x + functional.linear(attended, layer["out"])
            expanded = functional.gelu(functional.linear(self._normalise(x), layer["up"]))
            x = x + functional.linear(expanded, layer["down"])
        return functional.linear(self._normalise(x[-1:]), self._unembedding)[0].float() + self._mask

    def forward_each(self, tokens, cache, slots, positions):
        """One further token [count] for each of several slots, at its position; returns logits [count, 256].

        The matrix products are batched; attention runs slot by slot, because each reads a cache of another length.
        """
        config = self.config
        count = tokens.shape[0]
        slot_index = torch.tensor(slots, device=self._device)
        position_index = torch.tensor(positions, device=self._device)
        x = self._embedding[tokens] + torch.cat([self._positions(position, 1) for position in positions])
        for index, layer in enumerate(self._layers):
            qkv = functional.linear(self._normalise(x), layer["qkv"]).view(count, 3, config.heads, config.head_size)
            cache.write_each(slot_index, index, position_index, qkv[:, 1], qkv[:, 2])
            attended = []
            for row, (slot, position) in enumerate(zip(slots, positions)):
                keys, values = cache.read(slot, index, position + 1)
                attended.append(functional.scaled_dot_product_attention(
                    qkv[row, 0].view(1, config.heads, 1, config.head_size), keys.transpose(0, 1).unsqueeze(0),
                    values.transpose(0, 1).unsqueeze(0)).view(1, config.hidden))
            x = x + functional.linear(torch.cat(attended), layer["out"])
            expanded = functional.gelu(functional.linear(self._normalise(x), layer["up"]))
            x = x + functional.linear(expanded, layer["down"])
        return functional.linear(self._normalise(x), self._unembedding).float() + self._mask

    def _normalise(self, x):
        return functional.layer_norm(x, (self.config.hidden,))

    def _positions(self, start, count):
        """Sines and cosines of the position, as in the first transformer."""
        half = self.config.hidden // 2
        frequencies = torch.exp(torch.arange(half, device=self._device) * (-math.log(10000.0) / half))
        angles = torch.arange(start, start + count, device=self._device).unsqueeze(1) * frequencies
        return torch.cat((angles.sin(), angles.cos()), dim=1).to(self._dtype)

    def _causal_mask(self, start, count):
        """True where row i (position start + i) may look at column j; None when it may look at everything."""
        if count == 1:
            return None
        columns = torch.arange(start + count, device=self._device)
        rows = torch.arange(start, start + count, device=self._device)
        return columns.unsqueeze(0) <= rows.unsqueeze(1)
