"""Runs the job ``publish-features`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.publish_features import publish_features

if __name__ == "__main__":
    main(publish_features)
