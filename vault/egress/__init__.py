"""What leaves for other people's servers: where it may go, and one request to its end."""
