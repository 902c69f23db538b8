"""The parts of ``ranking_completejourney.py``: the data, the pipeline of jobs, the rows, the models and the report."""
