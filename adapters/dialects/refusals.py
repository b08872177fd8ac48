"""What models refuse to be told, learnt from their refusals.

No list says of every model whether it can be told how long to think or how daring to be, and callers of another dialect
cannot know the words that their request is written in.  So a translated request that is refused for a member that only
tunes the answer is written again without it, the caller is told by name, and the model is not told again.  A request
in the vendor's own dialect is the caller's own word and never changed.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from domain.inference.conversation import Conversation
from domain.inference.faults import FaultKind, VendorFault

MODELS_MAX: Final = 2_000
"""The least recently used are forgotten, and refused once more."""

FIELDS: Final[Mapping[str, str]] = {
    "reasoning_effort": "reasoning",
    "reasoning": "reasoning",
    "thinking": "reasoning",
    "effort": "reasoning",
    "output_config": "reasoning",
    "thinkingconfig": "reasoning",
    "thinking_config": "reasoning",
    "temperature": "temperature",
    "top_p": "top_p",
    "topp": "top_p",
    "top_k": "top_k",
    "topk": "top_k",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "frequencypenalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "presencepenalty": "presence_penalty",
    "logit_bias": "logit_bias",
    "logprobs": "logprobs",
    "top_logprobs": "logprobs",
    "parallel_tool_calls": "parallel_tools",
    "disable_parallel_tool_use": "parallel_tools",
    "verbosity": "verbosity",
    "service_tier": "service_tier",
    "metadata": "metadata",
    "user": "user",
    "safety_identifier": "user",
    "prompt_cache_key": "cache_key",
}
"""A vendor's name for a member, in small letters -> the field of a conversation that it is written from."""

_WORD = re.compile(r"[A-Za-z_]+")
_NAMED = re.compile(r"^([A-Za-z_.]+):|['\"`]([A-Za-z_.]+)['\"`]|\b([A-Za-z]+_[A-Za-z_]+)\b")
"""How a sentence names a member: at its beginning, in quotes, or by a word that no language has."""
_ALSO_A_ROLE: Final = "user"
_UNSUPPORTED = re.compile(
    r"unsupported|not support|does ?n.t support|unrecogni[sz]ed|unknown|not permitted|not allowed|deprecated"
    r"|extra inputs|unexpected|only the default|cannot be (?:set|used|specified)|may not be|not available",
    re.IGNORECASE,
)


class LearntRefusals:
    """What each model of one vendor has refused."""

    def __init__(self) -> None:
        self._by_model: OrderedDict[str, frozenset[str]] = OrderedDict()

    def spared(self, conversation: Conversation, vendor_model: str) -> tuple[Conversation, tuple[str, ...]]:
        """The conversation without what this model refuses, and the names of what was in it."""
        refused = self._by_model.get(vendor_model)
        if not refused:
            return conversation, ()
        self._by_model.move_to_end(vendor_model)
        present = tuple(sorted(name for name in refused if getattr(conversation, name) is not None))
        return (replace(conversation, **dict.fromkeys(present)), present) if present else (conversation, ())

    def learn(self, fault: VendorFault, conversation: Conversation, vendor_model: str) -> bool:
        """Whether the request is worth writing again, without what the vendor has just refused."""
        name = refused_field(fault)
        known = self._by_model.get(vendor_model, frozenset())
        if name is None or name in known or getattr(conversation, name) is None:
            return False
        self._by_model[vendor_model] = known | {name}
        self._by_model.move_to_end(vendor_model)
        while len(self._by_model) > MODELS_MAX:
            self._by_model.popitem(last=False)
        return True


def refused_field(fault: VendorFault) -> str | None:
    """The field of a conversation that a vendor refuses to be told; None where its refusal is about something else."""
    if fault.kind is not FaultKind.REFUSED:
        return None
    code = fault.vendor_code or ""
    if not (_UNSUPPORTED.search(fault.message) or "unsupported" in code or "unknown_parameter" in code):
        return None
    named = _WORD.findall(fault.param or "") or _named_in(fault.message)
    return next((FIELDS[word] for each in named if (word := each.lower()) in FIELDS), None)


def _named_in(message: str) -> list[str]:
    """The members that a sentence names.  A plain word is not one: vendors also write of reasoning and of users."""
    named = [next(filter(None, groups)) for groups in _NAMED.findall(message)]
    return [word for each in named for word in _WORD.findall(each) if word != _ALSO_A_ROLE]
