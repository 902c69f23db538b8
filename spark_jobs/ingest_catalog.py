"""Runs the job ``ingest-catalog`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.ingest_catalog import ingest_catalog

if __name__ == "__main__":
    main(ingest_catalog)
