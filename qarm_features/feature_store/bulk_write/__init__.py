"""Feast rows are encoded in bulk and written to online stores, in the stock layout."""
