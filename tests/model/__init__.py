"""The refresh protocol as a finite model, explored to its end with the decisions of ``vault.policy``."""
