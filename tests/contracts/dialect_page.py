"""`python -m tests.contracts.dialect_page`: writes docs/dialects.md from the writers' own tables of losses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from adapters.dialects.anthropic.conversation_writer import LOSSES as ANTHROPIC
from adapters.dialects.anthropic.reply_writer import REPLY_LOSSES as ANTHROPIC_REPLIES
from adapters.dialects.bedrock_converse.conversation_writer import LOSSES as BEDROCK
from adapters.dialects.gemini.conversation_writer import LOSSES as GEMINI
from adapters.dialects.openai_chat.reply_writer import LOSSES as CHAT_REPLIES
from adapters.dialects.openai_chat.target import LOSSES as CHAT
from adapters.dialects.openai_completions.codec import NO_PLACE, ONE_TEXT
from adapters.dialects.openai_responses.conversation_writer import LOSSES as RESPONSES

PAGE: Final = Path(__file__).parents[2] / "docs" / "dialects.md"

BEGINNING: Final = """# Dialects: what is kept and what is lost

<!-- Written by `python -m tests.contracts.dialect_page` from the tables in adapters/dialects; do not edit. -->

Programs speak OpenAI's Chat Completions (`/v1/chat/completions`), OpenAI's Responses (`/v1/responses`), Anthropic's
Messages (`/v1/messages`) or OpenAI's older Completions (`/v1/completions`), each to any model. Where the vendor speaks
the program's dialect, requests and answers pass as they are. Where it does not, they are translated:

- Text, system prompts, several turns, tools, parallel calls, their results with pictures, forced tools, JSON schemas,
  pictures, PDFs, thinking, output limits and refusals keep their meaning, whole and streamed.
- What would change the answer if it were left out (several answers, a file kept at another vendor, sound to a vendor
  that cannot hear) is refused with status 400; `param` names it and the message says what to do.
- What only tunes the answer is left out, and the header `x-gatewayz-dropped-params` names it.
- What only one family of models can read (signatures, sealed reasoning) is carried to the program and back, and sent
  to that family alone.

The tables say what is left out or changed, by target. A name is OpenAI's where OpenAI has one; the header uses the name
that the program's own dialect has.
"""
REQUESTS: Final[tuple[tuple[str, Mapping[str, str]], ...]] = (
    ("vendors that speak Chat Completions", CHAT),
    ("vendors that speak Messages", ANTHROPIC),
    ("vendors that speak Gemini", GEMINI),
    ("vendors that speak Responses", RESPONSES),
    ("Amazon Bedrock", BEDROCK),
)
REPLIES: Final[tuple[tuple[str, Mapping[str, str]], ...]] = (
    ("programs that speak Chat Completions", CHAT_REPLIES),
    ("programs that speak Messages", ANTHROPIC_REPLIES),
)


def page() -> str:
    parts = [BEGINNING]
    parts += [f"\n## Requests to {target}\n\n{_table(losses)}" for target, losses in REQUESTS]
    parts.append(
        "\n## Requests of the older Completions to chat models\n\n"
        "Refused, because the answer would be another one:\n\n" + _table({"prompt": ONE_TEXT, **NO_PLACE})
    )
    parts += [f"\n## Answers to {target}\n\n{_table(losses)}" for target, losses in REPLIES]
    return "".join(parts)


def _table(losses: Mapping[str, str]) -> str:
    rows = [f"| `{name}` | {_sentence(why)} |" for name, why in sorted(losses.items())]
    return "\n".join(["| what | what becomes of it |", "|---|---|", *rows]) + "\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


if __name__ == "__main__":
    PAGE.write_text(page())
