"""What the nine kinds of credentials are: their forms, their dates, and how long each may serve."""
