"""Labeled impressions become ``training_rows``, point in time, and ranking models are trained on them."""
