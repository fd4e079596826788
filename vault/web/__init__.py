"""The HTTP face: an ASGI application that can stand alone or be mounted in another, under any path.

Needs the extra ``web``. ``uvicorn --factory vault.web:create_app`` runs it, and so does ``evergrant serve``.
"""

from vault.web.app import API, create_app, from_env
from vault.web.problems import PROBLEMS

__all__ = ["API", "PROBLEMS", "create_app", "from_env"]
