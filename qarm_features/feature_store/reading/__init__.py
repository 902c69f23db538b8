"""Semantic IDs, behavior and vectors are read online."""
