"""Chains as lines of JSON, which a stranger can verify without the database: docs/security.md says how."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from vault.audit.rows import NOTHING, AuditAnchor, AuditRow, Link, instant, microseconds

START, ROW, ANCHOR = "start", "row", "anchor"


def anchor_line(anchor: AuditAnchor, kind: str = ANCHOR) -> str:
    """Write a place in a chain: where a file begins with it, or an anchor."""
    at = {} if anchor.at is None else {"at": _written(anchor.at)}
    return json.dumps({"kind": kind, "tenant": anchor.tenant, "seq": anchor.seq, "digest": anchor.digest.hex(), **at})


def row_line(link: Link) -> str:
    """Write a link with its row; of a row that is gone there is the link alone."""
    line: dict[str, Any] = {"kind": ROW, "tenant": link.tenant, "seq": link.seq, "id": link.audit_id}
    if link.row is not None:
        line |= row_fields(link.row)
        line["tenant"] = link.tenant
    return json.dumps({**line, "digest": link.digest.hex()})


def row_fields(row: AuditRow) -> dict[str, Any]:
    """Return a row as JSON can hold it; ``detail`` stays text, so that no letter of it changes."""
    of = None if row.connection_id is None else str(row.connection_id)
    return {
        "id": row.id,
        "xid": row.xid,
        "at": _written(row.at),
        "tenant": row.tenant,
        "event": row.event,
        "connection_id": of,
        "detail": row.detail,
    }


def read_line(text: str) -> tuple[str, AuditAnchor | Link]:
    """Read a line; returns its kind and what it holds. Raises ``ValueError`` when it is none of ours."""
    try:
        line = json.loads(text)
        kind, tenant, seq, digest = line["kind"], line["tenant"], line["seq"], bytes.fromhex(line["digest"])
        sound = isinstance(tenant, str) and isinstance(seq, int) and abs(seq) < 2**63 and len(digest) == len(NOTHING)
        if not sound or kind not in (START, ROW, ANCHOR):
            raise ValueError(kind)
        if kind != ROW:
            return kind, AuditAnchor(tenant, seq, digest, _read(line["at"]) if "at" in line else None)
        return kind, Link(tenant, seq, digest, int(line["id"]), _row(line) if "event" in line else None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a line of an audit export ({type(error).__name__})") from None


def read_anchors(lines: Iterable[str]) -> Iterator[AuditAnchor]:
    """Read the anchors among the lines of an export, or of ``evergrant audit anchor``. Raises ``ValueError``."""
    for number, text in enumerate(lines, 1):
        if text.strip():
            try:
                kind, found = read_line(text)
            except ValueError as error:
                raise ValueError(f"line {number} is {error}") from None
            if kind == ANCHOR and isinstance(found, AuditAnchor):
                yield found


def _row(line: dict[str, Any]) -> AuditRow:
    of = line["connection_id"]
    texts = line["tenant"], line["event"], line["detail"]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("text")
    tenant, event, detail = texts
    at = _read(line["at"])
    row = AuditRow(int(line["id"]), int(line["xid"]), at, tenant, event, None if of is None else UUID(of), detail)
    if not (0 <= row.xid < 2**64 and all(-(2**63) <= number < 2**63 for number in (row.id, at))):
        raise ValueError("number")
    return row


def _written(at: int) -> str | int:
    found = instant(at)
    return at if found is None else found.isoformat(timespec="microseconds")


def _read(at: object) -> int:
    return microseconds(datetime.fromisoformat(at)) if isinstance(at, str) else int(str(at))
