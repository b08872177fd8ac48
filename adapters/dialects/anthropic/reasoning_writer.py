"""How to think and to sample, written for a vendor of this dialect as the model's generation takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from adapters.dialects.anthropic.dropping import Dropped
from adapters.dialects.anthropic.models import BUDGETS, EFFORTS, ModelRules, ThinkingStyle, effort_for
from domain.catalog import Dialect
from domain.inference.conversation import Conversation, Effort, Reasoning

Json = dict[str, Any]

BUDGET_LEAST: Final = 1_024


class ReasoningWriter:
    """Writes into a request that has its limit, its turns and its tool choice already."""

    def __init__(self, said: Conversation, asked_in: Dialect, rules: ModelRules, dropped: Dropped) -> None:
        self._said = said
        self._asked_in = asked_in
        self._rules = rules
        self._dropped = dropped

    def write(self, request: Json) -> None:
        self._sampling(request, thinks=self._thinking(request, request.get("tool_choice"), request["messages"]))

    def _thinking(self, request: Json, choice: Json | None, messages: list[Json]) -> bool:
        """Whether the model is to think."""
        reasoning, style = self._said.reasoning, self._rules.thinking
        if reasoning is None:
            return False
        own = self._dropped.own(reasoning.extras)
        if "type" in own:
            request["thinking"] = dict(own)
            if reasoning.effort is not None:
                request["output_config"] = {"effort": EFFORTS.get(reasoning.effort, "low")}
            return True
        if reasoning.effort is Effort.NONE:
            if style is not ThinkingStyle.NONE:
                request["thinking"] = {"type": "disabled"}
            return False
        forced = choice is not None and choice["type"] in ("any", "tool")
        if style is ThinkingStyle.ADAPTIVE:
            return self._adaptive(request, reasoning, own, forced=forced)
        budget = self._budget(reasoning, request["max_tokens"])
        if forced or style is ThinkingStyle.NONE or budget is None or _lacks_thought(messages):
            self._dropped.add("reasoning_effort")
            return False
        request["thinking"] = _shown_as({"type": "enabled", "budget_tokens": budget, **own}, reasoning)
        return True

    def _adaptive(self, request: Json, reasoning: Reasoning, own: Mapping[str, Any], *, forced: bool) -> bool:
        effort = None if reasoning.effort is None else EFFORTS[reasoning.effort]
        if effort is None and reasoning.budget_tokens is not None:
            effort = effort_for(reasoning.budget_tokens)
        if effort is not None:
            request["output_config"] = {"effort": effort}
        if forced:
            self._dropped.add("reasoning_effort")
            return False
        # In this dialect an effort alone asks for no thinking; in all others it does.
        if self._asked_in is Dialect.ANTHROPIC and not reasoning.adaptive and not reasoning.budget_tokens:
            return False
        request["thinking"] = _shown_as({"type": "adaptive", **own}, reasoning)
        return True

    def _budget(self, reasoning: Reasoning, output_max: int) -> int | None:
        """Tokens below the answer's limit; None where too few are left."""
        if reasoning.budget_tokens is not None:
            budget = min(max(reasoning.budget_tokens, BUDGET_LEAST), output_max - 1)
        else:
            # A quarter of the limit is left for what is not thought.
            budget = min(BUDGETS[reasoning.effort or Effort.MEDIUM], output_max * 3 // 4)
        return budget if budget >= BUDGET_LEAST else None

    def _sampling(self, request: Json, *, thinks: bool) -> None:
        said, rules = self._said, self._rules
        wanted = {"temperature": said.temperature, "top_p": said.top_p, "top_k": said.top_k}
        for name, value in wanted.items():
            if value is None:
                continue
            if not rules.samples or thinks or (name == "top_p" and "temperature" in request and not rules.samples_both):
                self._dropped.add(name)
            elif name == "temperature" and value > 1:
                request[name] = 1
                self._dropped.add(name)
            else:
                request[name] = value


def _lacks_thought(messages: list[Json]) -> bool:
    """Whether the turn that goes on with tool results began without a thought, which such models refuse to think in."""
    for message in reversed(messages):
        content = message["content"]
        if not isinstance(content, list):
            return False
        kinds = [block["type"] for block in content]
        if message["role"] == "assistant":
            return "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking")
        if "tool_result" not in kinds:
            return False
    return False


def _shown_as(thinking: Json, reasoning: Reasoning) -> Json:
    if reasoning.hidden:
        thinking["display"] = "omitted"
    elif reasoning.summary is not None:
        thinking["display"] = "summarized"
    return thinking
