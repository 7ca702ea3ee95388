"""JAX without its preallocation: a jitted step, 50 times, on numbers that are exact in any order of the sums.

With TF_FORCE_UNIFIED_MEMORY=1 its allocator takes managed memory.
"""

import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import workload  # noqa: E402  (after the variable)

jax, numpy = workload.require("jax", "numpy")
jnp = jax.numpy

STEPS = 50


@jax.jit
def step(values, weights):
    return jnp.mod(jnp.maximum(values @ weights, 0), 7)


def main():
    try:
        device = jax.devices("gpu")[0]
    except RuntimeError as error:
        workload.skip(error)
    start = numpy.arange(512 * 512, dtype=numpy.float32).reshape(512, 512)
    values = jax.device_put(start % 7, device)
    weights = jax.device_put(start % 5 - 2, device)
    step(values, weights).block_until_ready()  # compiled
    with workload.timed():
        for _ in range(STEPS):
            values = step(values, weights)
        values.block_until_ready()
    workload.show("values", numpy.ascontiguousarray(jax.device_get(values)))


if __name__ == "__main__":
    main()
