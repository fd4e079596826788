"""The Celery app: `celery -A tests.benchmarks.naive.app worker`."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from celery import Celery
from requests_oauthlib import OAuth2Session

from tests.benchmarks.naive.models import Connection, Session

TOKEN_URI = os.environ["NAIVE_TOKEN_URI"]
CLIENT = ("evergrant", "cnry-cs-simulator")

app = Celery("naive", broker=os.environ["NAIVE_REDIS_URL"])
app.conf.task_ignore_result = True


@app.task(name="naive.refresh")
def refresh(connection_id: str) -> None:
    """Refresh one connection."""
    with Session() as session:
        connection = session.get_one(Connection, connection_id)
        oauth = OAuth2Session(CLIENT[0], token={"refresh_token": connection.refresh_token})
        token = oauth.refresh_token(TOKEN_URI, auth=CLIENT)
        connection.access_token = token["access_token"]
        connection.refresh_token = token["refresh_token"]
        connection.expires_at = datetime.fromtimestamp(token["expires_at"], UTC)
        connection.updated_at = datetime.now(UTC)
        session.commit()
