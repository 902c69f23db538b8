"""Embed ``items`` as ``item_embeddings``, write their content tokens, and make and export encoder versions."""
