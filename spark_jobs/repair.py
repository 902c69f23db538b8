"""Runs the job ``repair`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.repair import repair

if __name__ == "__main__":
    main(repair)
