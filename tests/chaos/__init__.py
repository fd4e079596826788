"""Kill, pause, flush and cut things while grants are refreshed, then join the provider's own log with the database."""
