"""The design to beat: one Celery task for each connection, written as tutorials have it.

ORM row, requests-oauthlib, Fernet column, commit. Nothing in it is slowed down on purpose; nothing is tuned either.
"""
