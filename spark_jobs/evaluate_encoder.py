"""Runs the job ``evaluate-encoder`` by spark-submit."""

from qarm_features.jobs.evaluate_encoder import evaluate_encoder
from qarm_features.jobs.session import main

if __name__ == "__main__":
    main(evaluate_encoder)
