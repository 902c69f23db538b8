"""Runs the job ``export-encoder`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.export_encoder import export_encoder

if __name__ == "__main__":
    main(export_encoder)
