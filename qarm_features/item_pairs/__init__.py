"""The click log becomes item pairs, the positive examples on which the item encoder is aligned.

In: positive ``interactions``, and the texts of ``items`` for the pair filter. Out: rows of ``item_pairs`` from one or both
of two sources (QARM, arXiv 2411.11739, item alignment): *item-to-item* by Swing (``swing.py``), and *user-to-item*, the
most similar item among a user's latest positives (``user_to_item.py``). ::

    user_id  item_id  event_timestamp      trigger_item_id  target_item_id  source        weight  event_timestamp
    7        1        10:00                1                2               user-to-item  2.0     12:30
    7        2        11:00            ->  1                2               item-to-item  0.25    12:30
    8        1        12:00                2                1               item-to-item  0.25    12:30
    8        2        12:30
"""

from qarm_features.extras import naming_extra

with naming_extra("Item pairs", "spark"):
    from qarm_features.item_pairs.mining import mine_item_pairs
    from qarm_features.item_pairs.pair_filter import flag_kept_pairs, load_filter, text_overlap, text_similarity
    from qarm_features.item_pairs.positives import positives

__all__ = ["flag_kept_pairs", "load_filter", "mine_item_pairs", "positives", "text_overlap", "text_similarity"]
