#!/bin/bash
#SBATCH --job-name=train
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --time=2:00:00
#SBATCH --output=train-%j.out
#CSBATCH --carbon-max-delay=24h
# A small training that really runs: logistic regression by gradient descent, with nothing but Python itself.
echo "started $(date --iso-8601=seconds) on $(hostname)"
exec python3 -I - <<'PYTHON'
import math
import random

random.seed(1)
data = []
for _ in range(2000):
    x = [1.0] + [random.gauss(0, 1) for _ in range(8)]
    data.append((x, 1.0 if sum(x[1:5]) - sum(x[5:]) + random.gauss(0, 0.5) > 0 else 0.0))
weights = [0.0] * 9
for epoch in range(1, 31):
    gradient, loss = [0.0] * 9, 0.0
    for x, label in data:
        p = 1 / (1 + math.exp(-sum(w * v for w, v in zip(weights, x))))
        loss -= math.log(max(p if label else 1 - p, 1e-12)) / len(data)
        gradient = [g + (p - label) * v / len(data) for g, v in zip(gradient, x)]
    weights = [w - 2.0 * g for w, g in zip(weights, gradient)]
    if epoch % 10 == 0:
        print(f"epoch {epoch}: loss {loss:.4f}")
PYTHON
