"""Runs the job ``build-training-set`` by spark-submit."""

from qarm_features.jobs.build_training_set import build_training_set
from qarm_features.jobs.command import main

if __name__ == "__main__":
    main(build_training_set)
