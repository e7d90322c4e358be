"""Turns beside those of other frameworks, with their harness; see `benchmarks/README.md`."""
