"""What benchmarks of the ranking model share: the jobs of a project, its data in memory, and one trained model."""
