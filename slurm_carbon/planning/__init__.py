"""Many jobs placed together: relaxed, rounded, proved, and priced."""
