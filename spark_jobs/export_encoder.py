"""Runs the job ``export-encoder`` by spark-submit."""

from qarm_features.jobs.export_encoder import export_encoder
from qarm_features.jobs.session import main

if __name__ == "__main__":
    main(export_encoder)
