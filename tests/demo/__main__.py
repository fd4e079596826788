"""`python -m tests.demo`: the exit code is 0 only if every connection is alive and every number was counted."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from contextlib import ExitStack
from typing import Any

from tests.demo.display import console, explain, show
from tests.demo.owners import owner_count
from tests.demo.progress import Progress
from tests.demo.stack import Scale, Stack, leave_on_signals
from tests.demo.story import Story, StoryError
from tests.demo.verdict import judge
from vault.testing.servers import ServerError


def main() -> int:
    """Run the demo; returns the exit code."""
    given = _arguments()
    leave_on_signals()
    try:
        with Progress() as progress:
            document = _run(given, progress)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if given.json:
        print(json.dumps(document, indent=2))
    elif "connections" in document:
        show(document, console())
    explain(document, console(stderr=True))
    return 0 if document["ok"] else 1


def _run(given: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Start, tell, judge, stop; what went wrong is in the document too."""
    began = time.monotonic()
    exits = ExitStack()
    try:
        with progress.step("start PostgreSQL, Redis and an OAuth provider") as say:
            stack = exits.enter_context(Stack(Scale(given.token_life, given.rotation)))
            say("on free loopback ports, in a temporary home")
        story = Story(
            stack, progress, owners=given.owners, seconds=given.seconds, withdraw=given.withdraw, calm=given.calm
        )
        exits.callback(story.books.close)
        try:
            document = judge(story, given.owners, story.tell(), lambda: time.monotonic() - began)
        except (StoryError, ServerError) as error:
            document = {"ok": False, "error": str(error), "last_words": stack.last_words()}
        if not document["ok"]:
            document["logs"] = stack.keep_logs()
    except ServerError as error:
        document = {"ok": False, "error": str(error)}
    finally:
        with progress.step("stop everything"):
            exits.close()
    return document


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make demo ARGS=…", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__
    )
    parser.add_argument("--owners", type=owner_count, default=300, help="how many connect (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=26.0, help="how long faults are spread over (default: %(default)s)"
    )
    parser.add_argument(
        "--token-life", type=float, default=15.0, help="seconds an access token lives (default: %(default)s)"
    )
    parser.add_argument(
        "--rotation",
        choices=("grace", "strict"),
        default="grace",
        help="what becomes of a spent refresh token: accepted again for 30 s, or never. With a strict provider, answers"
        " that die with the killed worker are lost connections: flagged, counted, exit code 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--withdraw", type=int, default=0, metavar="N", help="N owners take their consent back: the demo has to fail"
    )
    parser.add_argument("--calm", action="store_true", help="without the faults: connect, refresh, prove")
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on standard output, progress on standard error"
    )
    given = parser.parse_args()
    if given.withdraw > given.owners:
        parser.error("more owners cannot withdraw than connect")
    return given


if __name__ == "__main__":
    sys.exit(main())
