"""The planner, against a reference that shares no code with it."""
