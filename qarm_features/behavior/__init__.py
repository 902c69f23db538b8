"""``interactions`` become ``user_behavior``, ``user_impressions`` and ``item_counters``."""
