"""The algorithms as plain functions on numpy arrays; nothing here imports Spark."""
