"""DeepSeek."""

from adapters.dialects.openai_chat.quirks import Quirks, ReasoningBack, ReasoningWish
from adapters.vendors.openai_compatible import OLDER_LIMIT, OpenAICompatible

DEEPSEEK = OpenAICompatible(
    slug="deepseek",
    base_url="https://api.deepseek.com",
    docs="https://api-docs.deepseek.com/api/create-chat-completion",
    output_limit_field="max_tokens",
    renamed_fields=OLDER_LIMIT,
    quirks=Quirks(
        reasoning_wishes=(ReasoningWish.THINKING, ReasoningWish.EFFORT),
        efforts={"none": "", "minimal": "high", "low": "high", "medium": "high", "xhigh": "max"},
        # Within a loop of tool calls it answers 400 where its reasoning does not come back.
        reasoning_back=ReasoningBack.CONTENT,
        think_tags=False,
    ),
)
