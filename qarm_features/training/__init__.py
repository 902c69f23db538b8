"""Labeled impressions become ``training_rows``, joined point in time, and ranking models are trained on them."""
