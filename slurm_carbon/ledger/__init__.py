"""What was decided about whose job, when, why, from which forecast, what was done, and what happened then."""
