"""The parts of ``ranking_ml1m.py``: the pipeline's jobs, the variants, what is measured."""
