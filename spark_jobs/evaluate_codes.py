"""Runs the job ``evaluate-codes`` by spark-submit."""

from qarm_features.jobs.evaluate_codes import evaluate_codes
from qarm_features.jobs.session import main

if __name__ == "__main__":
    main(evaluate_codes)
