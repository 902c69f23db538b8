"""Runs the job ``evaluate-encoder`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.evaluate_encoder import evaluate_encoder

if __name__ == "__main__":
    main(evaluate_encoder)
