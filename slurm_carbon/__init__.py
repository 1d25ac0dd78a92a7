"""Carbon-aware placement of Slurm batch jobs."""

__version__ = "0.1.0"
