"""Runs the job ``assign-semantic-ids`` by spark-submit."""

from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
from qarm_features.jobs.command import main

if __name__ == "__main__":
    main(assign_semantic_ids)
