"""Runs the job ``code-frozen-items`` by spark-submit."""

from qarm_features.jobs.code_frozen_items import code_frozen_items
from qarm_features.jobs.command import main

if __name__ == "__main__":
    main(code_frozen_items)
