"""Micro-benchmarks of the parts that run for each message: `python -m pytest benchmarks`."""
