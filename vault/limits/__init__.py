"""Rates and bad days of providers: the gate every request to one goes through."""
