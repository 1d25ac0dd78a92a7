"""What was decided and saved, for people to look at."""
