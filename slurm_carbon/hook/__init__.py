"""The submit hook seen from outside: installing it, trying it, and reading what it has left on jobs."""
