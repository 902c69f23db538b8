"""The parts of ``ranking_ml1m.py``: the pipeline of jobs, the variants, and the measures."""
