"""Spark computes what the explorer shows, and one SQLite file takes it."""
