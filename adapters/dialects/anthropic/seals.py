"""Signatures in this dialect: Anthropic's own as they are, those of other families packed, so that they come back.

A thought without a signature has an empty one.  A seal that belongs to a tool call (Gemini's) has no place in this
dialect's calls and is carried in a `redacted_thinking` block that names the call.
"""

from __future__ import annotations

from typing import Any, Final

from domain.inference.conversation import Extras, Opaque, Thinking

FAMILY: Final = "anthropic"
CALL_SEAL: Final = "call."
_SUMMARISED: Final = "openai"
"""This family shows its thoughts in parts of a summary, and takes back nothing else."""


def thinking_of(text: str, signature: str, extras: Extras | None = None, *, redacted: bool = False) -> Thinking:
    sealed = Opaque.unpacked(signature, FAMILY) if signature else None
    if sealed is not None and sealed.origin == _SUMMARISED:
        parts = tuple(text.split("\n\n")) if text else ()
        return Thinking(summary=parts, sealed=sealed, redacted=redacted, extras=extras)
    return Thinking(text=text, sealed=sealed, redacted=redacted, extras=extras)


def shown(thinking: Thinking) -> str:
    """The text of a thought, or what it was summed up to."""
    return thinking.text or "\n\n".join(thinking.summary)


def signature_of(sealed: Opaque | None) -> str:
    if sealed is None:
        return ""
    return sealed.value if sealed.origin == FAMILY else sealed.packed()


def call_seal(call_id: str, sealed: Opaque) -> dict[str, Any]:
    return {"type": "redacted_thinking", "data": f"{CALL_SEAL}{call_id}.{sealed.packed()}"}
