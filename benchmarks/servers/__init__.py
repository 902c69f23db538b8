"""Servers that benchmarks start for themselves."""
