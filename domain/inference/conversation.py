"""A conversation and the wish for its next answer, in the words of no dialect.

The canonical form that every dialect is read into and written from: N dialects and M vendors need N + M codecs, never
N x M bridges.  It is a superset: whatever one dialect can say and another may understand has a place here.  What only
its own dialect understands travels as `Extras`, `Foreign` or `ServerTool` and is written back by that dialect alone;
the others name it in `Written.dropped`.  A request whose dialect is its vendor's own never comes here: its bytes are
passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct

from domain.catalog import Dialect


class Extras(Struct, frozen=True):
    """Members that only `dialect` knows, as decoded JSON."""

    dialect: Dialect
    members: Mapping[str, Any]


class Opaque(Struct, frozen=True):
    """Bytes of a vendor's that only the same vendor can read: a signature, sealed reasoning.

    `origin` names the family that made it ("anthropic", "gemini", "openai"); no other family is sent it, because each
    refuses a request with a signature that it did not write.
    """

    origin: str
    value: str

    def packed(self) -> str:
        """As one string, for a dialect of another family to carry to its caller and back."""
        return f"{_PACKED}{self.origin}.{self.value}"

    @classmethod
    def unpacked(cls, text: str, origin: str) -> Opaque:
        """What `packed` made, or a value of `origin`'s own."""
        if text.startswith(_PACKED):
            family, dot, value = text.removeprefix(_PACKED).partition(".")
            if dot and family:
                return cls(family, value)
        return cls(origin, text)


_PACKED = "gwz1."


class CacheMark(Struct, frozen=True):
    """Everything up to here is worth keeping in the vendor's prompt cache."""

    ttl: str | None = None
    """As the dialect spells it: "5m", "1h", "30m", "12h"; None for the vendor's default."""


class Inline(Struct, frozen=True, tag="inline"):
    media_type: str
    data: str
    """Base64, as it came."""


class Link(Struct, frozen=True, tag="link"):
    url: str


class StoredFile(Struct, frozen=True, tag="file"):
    """A file kept at the vendor; means nothing to another vendor."""

    id: str


Source = Inline | Link | StoredFile


class Citation(Struct, frozen=True, kw_only=True):
    """Where a text came from.  Offsets are characters of the block's text; None where the dialect gives none."""

    url: str = ""
    title: str = ""
    quoted: str = ""
    start: int | None = None
    end: int | None = None
    extras: Extras | None = None


class Text(Struct, frozen=True, kw_only=True, tag="text"):
    text: str
    cache: CacheMark | None = None
    citations: tuple[Citation, ...] = ()
    extras: Extras | None = None


class Image(Struct, frozen=True, kw_only=True, tag="image"):
    source: Source
    detail: str | None = None
    cache: CacheMark | None = None
    extras: Extras | None = None


class Document(Struct, frozen=True, kw_only=True, tag="document"):
    """A file to be read: PDF, plain text."""

    source: Source
    name: str | None = None
    context: str | None = None
    cache: CacheMark | None = None
    extras: Extras | None = None


class Audio(Struct, frozen=True, kw_only=True, tag="audio"):
    data: str
    """Base64."""
    format: str
    """"wav", "mp3"."""
    cache: CacheMark | None = None
    extras: Extras | None = None


class ToolCall(Struct, frozen=True, kw_only=True, tag="tool_call"):
    id: str
    name: str
    arguments: str
    """JSON text of an object, as the model wrote it; plain text for a custom tool.  Empty means no arguments."""
    custom: bool = False
    sealed: Opaque | None = None
    """Gemini binds its reasoning to the call; the call must come back with it."""
    cache: CacheMark | None = None
    extras: Extras | None = None


class Thinking(Struct, frozen=True, kw_only=True, tag="thinking"):
    """Reasoning that is shown, summed up, or sealed; one of the three at least."""

    text: str = ""
    summary: tuple[str, ...] = ()
    sealed: Opaque | None = None
    redacted: bool = False
    """There is nothing to show: `sealed` is all."""
    extras: Extras | None = None


class Refusal(Struct, frozen=True, kw_only=True, tag="refusal"):
    text: str


class Foreign(Struct, frozen=True, tag="foreign"):
    """A block that only `dialect` knows (a server tool's call or result), as decoded JSON."""

    dialect: Dialect
    kind: str
    raw: Mapping[str, Any]


ResultBlock = Text | Image | Document | Audio | Foreign


class ToolResult(Struct, frozen=True, kw_only=True, tag="tool_result"):
    call_id: str
    content: tuple[ResultBlock, ...] = ()
    name: str = ""
    """Of the tool, where the dialect says it; Gemini finds the call by it."""
    failed: bool = False
    custom: bool = False
    cache: CacheMark | None = None
    extras: Extras | None = None


Block = Text | Image | Document | Audio | ToolCall | ToolResult | Thinking | Refusal | Foreign


class Role(StrEnum):
    SYSTEM = "system"
    DEVELOPER = "developer"
    """As SYSTEM for a vendor without it."""
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    """Holds ToolResults alone; in dialects that put results into the user's turn they are read as USER."""


class Turn(Struct, frozen=True, kw_only=True):
    role: Role
    blocks: tuple[Block, ...]
    name: str | None = None
    extras: Extras | None = None


class FunctionTool(Struct, frozen=True, kw_only=True, tag="function"):
    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    """JSON Schema of an object."""
    strict: bool | None = None
    cache: CacheMark | None = None
    extras: Extras | None = None


class CustomTool(Struct, frozen=True, kw_only=True, tag="custom"):
    """A tool that takes plain text, perhaps of a grammar."""

    name: str
    description: str | None = None
    format: Mapping[str, Any] | None = None
    extras: Extras | None = None


class WebSearch(Struct, frozen=True, kw_only=True, tag="web_search"):
    """The vendor's own search."""

    uses_max: int | None = None
    allowed_domains: tuple[str, ...] = ()
    blocked_domains: tuple[str, ...] = ()
    context_size: str | None = None
    extras: Extras | None = None
    """With the dialect's own type name and members."""


class ServerTool(Struct, frozen=True, tag="server_tool"):
    """Any other tool that the vendor runs itself, as decoded JSON."""

    dialect: Dialect
    kind: str
    raw: Mapping[str, Any]


Tool = FunctionTool | CustomTool | WebSearch | ServerTool


class ToolMode(StrEnum):
    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


class ToolChoice(Struct, frozen=True, kw_only=True):
    mode: ToolMode = ToolMode.AUTO
    named: str | None = None
    """This tool must be called."""
    allowed: tuple[str, ...] = ()
    """Only these may be."""


class JsonObject(Struct, frozen=True, tag="json_object"):
    """Any JSON object."""


class JsonSchema(Struct, frozen=True, kw_only=True, tag="json_schema"):
    schema: Mapping[str, Any]
    name: str = "answer"
    description: str | None = None
    strict: bool | None = None


class Effort(StrEnum):
    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


class Reasoning(Struct, frozen=True, kw_only=True):
    """How long to think and how much of it to show; None leaves it to the model."""

    effort: Effort | None = None
    budget_tokens: int | None = None
    adaptive: bool = False
    """The model decides how long, as Anthropic's thinking type `adaptive`."""
    summary: str | None = None
    """"auto", "concise", "detailed"."""
    hidden: bool = False
    """The thoughts are not wanted in the answer."""
    extras: Extras | None = None


class Conversation(Struct, frozen=True, kw_only=True):
    """Everything that a request asks of a model.  Which model, and the gateway's own fields, are not in it."""

    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    output_max: int | None = None
    output_format: JsonObject | JsonSchema | None = None
    reasoning: Reasoning | None = None
    verbosity: str | None = None
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    logprobs: int | None = None
    """How many alternatives per token; 0 for the chosen one alone."""
    answers: int = 1
    user: str | None = None
    """An id of the end user, for the vendor's abuse detection."""
    cache_key: str | None = None
    service_tier: str | None = None
    metadata: Mapping[str, str] | None = None
    extras: Extras | None = None


class Written(Struct, frozen=True):
    """A request in a vendor's words."""

    body: bytes
    dropped: tuple[str, ...] = ()
    """What these words cannot say, named as the caller named it where that is known: "seed", "tools[2]"."""


def placeholder(block: Foreign | ServerTool) -> str:
    """How a thing of another dialect is named to the caller whose request lost it."""
    return f"{block.dialect}:{block.kind}"
