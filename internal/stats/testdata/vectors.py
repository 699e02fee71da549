#!/usr/bin/env python3
"""Writes vectors.json with Python's statistics module. Run: python3 vectors.py > vectors.json

statistics.quantiles(method="inclusive") interpolates as numpy.percentile does by default."""
import json
import random
import statistics

random.seed(3)
cases = []
for name, samples in [
    ("two", [1.0, 2.0]),
    ("unsorted", [5.0, 1.0, 4.0, 2.0, 3.0]),
    ("even", [10.0, 20.0, 30.0, 40.0]),
    ("equal", [7.5] * 9),
    ("skewed", [random.expovariate(1 / 30) for _ in range(257)]),
    ("negative", [random.gauss(0, 5) for _ in range(100)]),
]:
    q = statistics.quantiles(samples, n=100, method="inclusive")
    cases.append({"name": name, "samples": samples, "mean": statistics.fmean(samples), "std": statistics.pstdev(samples),
                  "p10": q[9], "p50": q[49], "p90": q[89], "p99": q[98]})
print(json.dumps(cases, indent=1))
