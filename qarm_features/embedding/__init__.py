"""``items`` become ``item_embeddings`` and content tokens; encoder versions are made and exported here."""
