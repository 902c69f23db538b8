"""The parts of ``em3_training.py``: the way before, and rows of the same shape as those of a project."""
