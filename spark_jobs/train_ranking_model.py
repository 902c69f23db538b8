"""Runs the job ``train-ranking-model`` by spark-submit."""

from qarm_features.jobs.command import main
from qarm_features.jobs.train_ranking_model import train_ranking_model

if __name__ == "__main__":
    main(train_ranking_model)
