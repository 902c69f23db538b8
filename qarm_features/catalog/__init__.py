"""Your files or tables become ``items``, ``interactions`` and ``rejected_rows``."""
