"""Bad days of providers: one that is away, a secret that is wrong, more work than a rate allows."""
