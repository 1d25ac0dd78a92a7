"""Slurm: the only place that starts its commands and reads what they print."""
