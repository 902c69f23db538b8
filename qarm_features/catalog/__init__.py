"""Ingest: the user's files or tables become ``items``, ``interactions`` and ``rejected_rows``."""
