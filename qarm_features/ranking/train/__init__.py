"""The training of a ranking model: fit, early stop, metrics, calibration, and the folder it is saved in."""
