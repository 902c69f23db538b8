"""Readers of the online store: semantic IDs, behavior sequences, impressions, counters and vectors as torch tensors."""
