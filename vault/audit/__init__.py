"""The audit chain as values: what a link covers, how a chain is followed, how both look in a file."""
