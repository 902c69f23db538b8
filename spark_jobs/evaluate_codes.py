"""Runs the job ``evaluate-codes`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.evaluate_codes import evaluate_codes

if __name__ == "__main__":
    main(evaluate_codes)
