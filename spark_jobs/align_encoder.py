"""Runs the job ``align-encoder`` by spark-submit."""

from qarm_features.jobs.align_encoder import align_encoder
from qarm_features.jobs.command import main

if __name__ == "__main__":
    main(align_encoder)
