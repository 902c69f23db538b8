"""Runs the job ``build-explorer`` by spark-submit."""

from qarm_features.jobs.build_explorer import build_explorer
from qarm_features.jobs.command import main

if __name__ == "__main__":
    main(build_explorer)
