"""A world in which what users click is planted, so that the best possible AUC of every idea is known.

Seed and strengths in; items, impressions by time and the parts of their true logits out; then models, each with one idea and
without it, and the share of the possible gain that the idea brings.
"""
