"""Authorization servers that nobody here wrote, for tests: what we think of the standards is not all there is to them."""
