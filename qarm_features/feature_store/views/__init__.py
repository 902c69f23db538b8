"""Feature views are derived from the tables."""
