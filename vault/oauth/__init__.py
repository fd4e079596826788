"""What is known of OAuth: providers as data, requests, answers, and the transport they travel by."""
