"""Following: files that arrive become served semantic IDs and behavior, batch by batch, without a run over everything."""
