"""Runs the job ``follow`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.follow import follow

if __name__ == "__main__":
    main(follow)
