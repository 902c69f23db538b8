"""Runs the job ``publish-features`` by spark-submit."""

from qarm_features.jobs.publish_features import publish_features
from qarm_features.jobs.session import main

if __name__ == "__main__":
    main(publish_features)
