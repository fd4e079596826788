"""Authorization servers that nobody here wrote, for tests: there is more to standards than what we make of them."""
