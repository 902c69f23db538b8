"""The parts of ``rival_codes.py``: catalogs with embeddings and pairs, quantizers, measures, and the table."""
