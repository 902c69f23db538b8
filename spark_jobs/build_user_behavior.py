"""Runs the job ``build-user-behavior`` by spark-submit."""

from qarm_features.jobs.build_user_behavior import build_user_behavior
from qarm_features.jobs.command import main

if __name__ == "__main__":
    main(build_user_behavior)
