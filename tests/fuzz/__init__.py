"""Throw malformed envelopes, wrapped keys and texts at whoever opens them, and count what comes out.

What must come out is the documented error and nothing else: no plaintext that was not sealed there, no other
exception. Among the malformed there are untouched ones, which must open: refusing everything does not pass either.

`corpus` seals what is then altered, and knows what may open where; `mutate` alters; `campaign` tries and counts.
"""
