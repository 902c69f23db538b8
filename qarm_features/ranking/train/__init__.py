"""A ranking model is fitted, measured, calibrated and saved."""
