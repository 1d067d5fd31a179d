"""Benchmarks, each beside its peers in the same run; each writes a page of `docs/`."""
