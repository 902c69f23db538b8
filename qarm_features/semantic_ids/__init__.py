"""Semantic IDs of items: assignment, collisions and export.

In: item embeddings and codebooks. Out: rows of ``item_semantic_ids``, and files for generative recommenders.
"""
