"""Text with slots in it, ``/hooks/{tag.hook_id}``: what fills a slot is looked up, and written as its place demands.

A slot is ``{root}`` or ``{root.field}``. ``|optional`` leaves out what would hold it when there is nothing to fill it
with; ``|list`` splits what is found at its commas, where several values may stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

OPTIONAL: Final = "optional"
LIST: Final = "list"
_SLOT = re.compile(r"\{([a-z]+)(?:\.([A-Za-z0-9_-]+))?(?:\|(optional|list))?\}", re.ASCII)


class Slot(NamedTuple):
    """A place for what is looked up."""

    root: str
    field: str
    how: str
    """Empty, ``optional`` or ``list``."""

    def __str__(self) -> str:
        return f"{self.root}.{self.field}" if self.field else self.root


Lookup = Callable[[Slot], str | None]


class Missing(Exception):
    """There is nothing to fill a slot with; it says which, never what anything is."""


class Template(NamedTuple):
    """Text and slots, in their order."""

    parts: tuple[str | Slot, ...]

    @property
    def slots(self) -> Iterator[Slot]:
        """Every slot."""
        return (part for part in self.parts if isinstance(part, Slot))

    def fill(self, lookup: Lookup, escape: Callable[[Slot, str], str] = lambda _, text: text) -> str | None:
        """Return the text; None: something optional is not there. Raises ``Missing``."""
        found = []
        for part in self.parts:
            if isinstance(part, str):
                found.append(part)
                continue
            value = lookup(part)
            if value is None and part.how == OPTIONAL:
                return None
            if value is None:
                raise Missing(str(part))
            found.append(escape(part, value))
        return "".join(found)

    def values(self, lookup: Lookup) -> str | list[str] | None:
        """Return the text, or the several values of a list; None as ``fill``."""
        text = self.fill(lookup)
        if text is None or not any(slot.how == LIST for slot in self.slots):
            return text
        return [word.strip() for word in text.split(",") if word.strip()]


def parse(text: str) -> Template:
    """Read a template. Raises ``ValueError`` that says what is wrong with it."""
    parts: list[str | Slot] = []
    at = 0
    for match in _SLOT.finditer(text):
        parts += [text[at : match.start()], Slot(match[1], match[2] or "", match[3] or "")]
        at = match.end()
    parts.append(text[at:])
    kept = tuple(part for part in parts if part)
    if any(isinstance(part, str) and ("{" in part or "}" in part) for part in kept):
        raise ValueError("a brace belongs to no slot: these are {tag.name}, {request}, {new}, …")
    template = Template(kept)
    if len(kept) > 1 and any(slot.how == LIST for slot in template.slots):
        raise ValueError("a list stands alone")
    return template
