"""Every pending job of every cluster planned together, and moved safely: what `slurm-carbon reoptimize` does each time."""
