"""Where requests may go, and one request to its end."""
