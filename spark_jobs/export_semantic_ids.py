"""Runs the job ``export-semantic-ids`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.export_semantic_ids import export_semantic_ids

if __name__ == "__main__":
    main(export_semantic_ids)
