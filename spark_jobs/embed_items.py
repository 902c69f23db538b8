"""Runs the job ``embed-items`` by spark-submit."""

from qarm_features.jobs.embed_items import embed_items
from qarm_features.jobs.session import main

if __name__ == "__main__":
    main(embed_items)
