"""Codebooks and banks are fitted, refitted and kept as versions."""
