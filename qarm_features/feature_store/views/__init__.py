"""Feature views of the tables: codes, behavior, impressions, counters and vectors."""
