"""The numbers of the documents, row by row as they were published. Nothing here was measured by us.

blog    "Profile CUDA UVM Performance", 2024-03-25: A100 80 GB, CUDA 12.2, driver 535.161.07. Seconds.
log     "Profile VLLM Performance", 2024-03-25: names no GPU. Microseconds.
issue   vLLM issue #17062, "UVA vs UVM for CPU offloading on v0.8.4+": a question, no numbers.
thread  a discussion on Hacker News about virtual memory for KV caches: two positions, no numbers.
"""

BLOG_BYTES = 80e9  # that the blog's k chunks fill, as "80 GB" says

# (m, k): mode: (prefill, 1st cycle with the prefill, 2nd cycle, total); None is an empty cell.
BLOG = {
    (8, 4): {"manual": (19.20, 36.81, 27.42, 64.23), "pinned": (3.86306, 11.5981, None, None),
             "uvm": (21.06, 42.64, 44.43, 87.07), "prefetch": (3.48, 10.31, 18.01, 28.32)},
    (12, 4): {"manual": (19.32, 57.96, 40.92, 98.89), "uvm": (21.26, 67.43, 66.86, 134.28),
              "prefetch": (3.48, 17.15, 26.03, 43.17)},
    (80, 40): {"manual": (19.31, 43.33, 35.63, 78.97), "uvm": (17.13, 36.26, 37.98, 74.24),
               "prefetch": (3.54, 10.80, 18.16, 28.96)},
    (120, 40): {"manual": (19.58, 59.41, 41.02, 100.42), "uvm": (16.97, 54.70, 56.91, 111.62),
                "prefetch": (3.54, 18.07, 26.28, 44.35)},
    (2048, 1024): {"manual": (19.64, 37.05, 27.90, 64.95), "uvm": (20.59, 43.44, 47.37, 90.81),
                   "prefetch": (3.57, 11.14, 18.72, 29.86)},
    (3072, 1024): {"manual": (19.82, 59.08, 41.42, 100.50), "uvm": (20.77, 66.66, 70.62, 137.28),
                   "prefetch": (3.57, 18.74, 27.09, 45.83)},
}
BLOG_PHASES = ("prefill_seconds", "first_cycle_seconds", "second_cycle_seconds", "total_seconds")

BLOCKS = (1, 2, 4, 8, 16, 32)

# One column of the log: what it is called, how paged_attention repeats it, and its values by block size.
LOG = (
    ("T1 uvm", dict(memory="managed", mode="lookup-vllm", batch=1, seq=4096),
     (1028.550, 1477.255, 1464.686, 238.968, 163.439, 289.493)),
    ("T1 normal", dict(memory="device", mode="lookup-vllm", batch=1, seq=4096),
     (1028.238, 1476.911, 1464.294, 239.627, 163.369, 289.022)),
    ("T2 no look-up, 4096", dict(memory="device", mode="direct", batch=1, seq=4096),
     (816.158, 1297.227, 1043.477, 217.600, 145.849, 326.260)),
    ("T2 no look-up, 1024", dict(memory="device", mode="direct", batch=1, seq=1024),
     (207.329, None, None, 64.420, None, None)),
    ("T3 original, 4096", dict(memory="device", mode="lookup-vllm", batch=1, seq=4096),
     (1037.732, 1489.282, 1468.762, 251.441, 173.120, 298.460)),
    ("T3 original, 1024", dict(memory="device", mode="lookup-vllm", batch=1, seq=1024),
     (None, None, None, 68.620, None, None)),
    ("T4 no look-up, batch 32", dict(memory="device", mode="direct", batch=32, seq=1024),
     (777.439, 731.292, 884.846, 990.562, 638.619, 633.239)),
    ("T4 no look-up, batch 16", dict(memory="device", mode="direct", batch=16, seq=1024),
     (396.988, 368.940, 538.912, 611.939, 354.824, 362.255)),
    ("T5 original, batch 32", dict(memory="device", mode="lookup-vllm", batch=32, seq=1024), (None,) * 6),
    ("T5 original, batch 16", dict(memory="device", mode="lookup-vllm", batch=16, seq=1024),
     (461.034, 856.398, 879.262, 332.499, 321.019, 340.325)),
    ("T6 no offset, batch 32", dict(memory="device", mode="no-offset", batch=32, seq=1024), (None,) * 6),
    ("T6 no offset, batch 16", dict(memory="device", mode="no-offset", batch=16, seq=1024),
     (264.341, 620.199, 505.776, 176.526, 137.137, 184.604)),
)
