"""Carbon intensity of the coming days: one module a source."""
