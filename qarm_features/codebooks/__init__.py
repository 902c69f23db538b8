"""Fitting and refitting of codebooks and banks.

In: item embeddings. Out: codebooks and banks, which artifacts hold as versions.
"""
