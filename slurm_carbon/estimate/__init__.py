"""What a job will take: run time and power."""
