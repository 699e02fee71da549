#!/usr/bin/env python3
"""Writes vectors.json: what CPython's random module draws. Run: python3 vectors.py > vectors.json"""
import json
import platform
import random

SEEDS = [0, 1, 42, -42, 19650218, 2**31, 2**32 - 1, 2**32, 2**40 + 12345, 2**63 - 1]

cases = []
for seed in SEEDS:
    r = random.Random(seed)
    cases.append({
        "seed": seed,
        "bits32": [r.getrandbits(32) for _ in range(6)],
        "bits_widths": [1, 7, 31, 32, 33, 48, 53, 64],
        "bits": [str(r.getrandbits(k)) for k in (1, 7, 31, 32, 33, 48, 53, 64)],
        "floats": [r.random() for _ in range(5)],
        "randint_ranges": [[0, 0], [0, 1], [1, 6], [-5, 5], [0, 10000], [100, 256], [0, 2**33]],
        "randint": [r.randint(a, b) for a, b in [(0, 0), (0, 1), (1, 6), (-5, 5), (0, 10000), (100, 256), (0, 2**33)]],
        "choice": [r.choice("abcdefg") for _ in range(6)],
        # past several refills of the state
        "after_2000_words": [[r.getrandbits(32) for _ in range(2000)][-1], r.random()],
    })

random.seed(42)
standard = [[[random.randint(0, 10000) for _ in range(random.randint(100, 256))] for _ in range(n)] for n in (1, 2, 4)]

random.seed(0)
nano = [[random.randint(0, 10000) for _ in range(random.randint(100, 1024))] for _ in range(256)]
nano_outputs = [random.randint(100, 1024) for _ in range(256)]

print(json.dumps({
    "made_with": f"CPython {platform.python_version()}",
    "cases": cases,
    "standard_lengths": [[len(p) for p in batch] for batch in standard],
    "standard_first_ids": [[p[:4] for p in batch] for batch in standard],
    "standard_last_ids": [[p[-4:] for p in batch] for batch in standard],
    "nano_input_tokens": sum(map(len, nano)),
    "nano_output_tokens": sum(nano_outputs),
}, indent=1))
