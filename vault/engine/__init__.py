"""The refresh engine: many grants at once through one transport and one writer, by the rules of ``vault.policy``."""
