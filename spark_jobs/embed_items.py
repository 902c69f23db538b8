"""Runs the job ``embed-items`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.embed_items import embed_items

if __name__ == "__main__":
    main(embed_items)
