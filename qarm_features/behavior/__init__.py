"""The click log becomes ``user_behavior``, ``user_impressions`` and ``item_counters``."""
