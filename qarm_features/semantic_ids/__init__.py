"""``item_embeddings`` and codebooks become ``item_semantic_ids``, and files for generative recommenders."""
