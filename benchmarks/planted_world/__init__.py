"""A synthetic world with planted click probabilities, so that the best possible AUC of every idea is known.

In: a seed and the strengths of effects. Out: items, impressions by time and the parts of their true logits, then models with
and without each idea, and the share of the possible gain that each idea reaches.
"""
