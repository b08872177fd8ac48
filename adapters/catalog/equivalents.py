"""Which ids of vendors mean the same model: plain data, and the only place where two spellings are joined.

An id that a vendor spells exactly as the canonical one needs no entry.  An entry must be certain: what is joined here
is sold as one model, so that a distilled, a differently dated or a differently tuned model has no place in it.
Open models have the id that their author gave them on Hugging Face.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

AUTHORS: Final[Mapping[str, str]] = {
    "gemini": "google",
    "mistral": "mistralai",
    "vertex": "google",
    "xai": "x-ai",
}
"""Whose models those are that a vendor lists without naming an author, where it is not the vendor's own name."""

NAMESPACES: Final[Mapping[str, str]] = {
    "fireworks": "accounts/fireworks/models/",
    "gemini": "models/",
    "vertex": "publishers/google/models/",
}
"""What a vendor writes before every id of its own."""

EQUIVALENTS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    # Meta
    "meta-llama/Llama-3.1-8B-Instruct": {
        "cerebras": ("llama3.1-8b",),
        "deepinfra": ("meta-llama/Meta-Llama-3.1-8B-Instruct",),
        "featherless": ("meta-llama/Meta-Llama-3.1-8B-Instruct",),
        "fireworks": ("accounts/fireworks/models/llama-v3p1-8b-instruct",),
        "groq": ("llama-3.1-8b-instant",),
        "nebius": ("meta-llama/Meta-Llama-3.1-8B-Instruct",),
        "novita": ("meta-llama/llama-3.1-8b-instruct",),
        "openrouter": ("meta-llama/llama-3.1-8b-instruct",),
        "together": ("meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo",),
    },
    "meta-llama/Llama-3.1-70B-Instruct": {
        "deepinfra": ("meta-llama/Meta-Llama-3.1-70B-Instruct",),
        "featherless": ("meta-llama/Meta-Llama-3.1-70B-Instruct",),
        "fireworks": ("accounts/fireworks/models/llama-v3p1-70b-instruct",),
        "nebius": ("meta-llama/Meta-Llama-3.1-70B-Instruct",),
        "novita": ("meta-llama/llama-3.1-70b-instruct",),
        "openrouter": ("meta-llama/llama-3.1-70b-instruct",),
        "together": ("meta-llama/Meta-Llama-3.1-70B-Instruct-Turbo",),
    },
    "meta-llama/Llama-3.1-405B-Instruct": {
        "deepinfra": ("meta-llama/Meta-Llama-3.1-405B-Instruct",),
        "fireworks": ("accounts/fireworks/models/llama-v3p1-405b-instruct",),
        "nebius": ("meta-llama/Meta-Llama-3.1-405B-Instruct",),
        "openrouter": ("meta-llama/llama-3.1-405b-instruct",),
        "together": ("meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo",),
    },
    "meta-llama/Llama-3.3-70B-Instruct": {
        "cerebras": ("llama-3.3-70b",),
        "fireworks": ("accounts/fireworks/models/llama-v3p3-70b-instruct",),
        "groq": ("llama-3.3-70b-versatile",),
        "novita": ("meta-llama/llama-3.3-70b-instruct",),
        "openrouter": ("meta-llama/llama-3.3-70b-instruct",),
        "together": ("meta-llama/Llama-3.3-70B-Instruct-Turbo",),
    },
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": {
        "fireworks": ("accounts/fireworks/models/llama4-scout-instruct-basic",),
        "groq": ("meta-llama/llama-4-scout-17b-16e-instruct",),
        "novita": ("meta-llama/llama-4-scout-17b-16e-instruct",),
        "openrouter": ("meta-llama/llama-4-scout",),
    },
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": {
        "fireworks": ("accounts/fireworks/models/llama4-maverick-instruct-basic",),
        "groq": ("meta-llama/llama-4-maverick-17b-128e-instruct",),
        "openrouter": ("meta-llama/llama-4-maverick",),
    },
    # OpenAI's open models
    "openai/gpt-oss-120b": {
        "cerebras": ("gpt-oss-120b",),
        "fireworks": ("accounts/fireworks/models/gpt-oss-120b",),
    },
    "openai/gpt-oss-20b": {
        "fireworks": ("accounts/fireworks/models/gpt-oss-20b",),
    },
    # DeepSeek
    "deepseek-ai/DeepSeek-V3": {
        "fireworks": ("accounts/fireworks/models/deepseek-v3",),
        "novita": ("deepseek/deepseek_v3",),
        "openrouter": ("deepseek/deepseek-chat",),
    },
    "deepseek-ai/DeepSeek-V3-0324": {
        "fireworks": ("accounts/fireworks/models/deepseek-v3-0324",),
        "novita": ("deepseek/deepseek-v3-0324",),
        "openrouter": ("deepseek/deepseek-chat-v3-0324",),
    },
    "deepseek-ai/DeepSeek-V3.1": {
        "fireworks": ("accounts/fireworks/models/deepseek-v3p1",),
        "novita": ("deepseek/deepseek-v3.1",),
        "openrouter": ("deepseek/deepseek-chat-v3.1",),
    },
    "deepseek-ai/DeepSeek-V3.1-Terminus": {
        "fireworks": ("accounts/fireworks/models/deepseek-v3p1-terminus",),
        "novita": ("deepseek/deepseek-v3.1-terminus",),
        "openrouter": ("deepseek/deepseek-v3.1-terminus",),
    },
    "deepseek-ai/DeepSeek-V3.2": {
        "fireworks": ("accounts/fireworks/models/deepseek-v3p2",),
        "novita": ("deepseek/deepseek-v3.2",),
        "openrouter": ("deepseek/deepseek-v3.2",),
    },
    "deepseek-ai/DeepSeek-R1": {
        "fireworks": ("accounts/fireworks/models/deepseek-r1",),
        "novita": ("deepseek/deepseek-r1",),
        "openrouter": ("deepseek/deepseek-r1",),
    },
    "deepseek-ai/DeepSeek-R1-0528": {
        "fireworks": ("accounts/fireworks/models/deepseek-r1-0528",),
        "novita": ("deepseek/deepseek-r1-0528",),
        "openrouter": ("deepseek/deepseek-r1-0528",),
    },
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": {
        "groq": ("deepseek-r1-distill-llama-70b",),
        "novita": ("deepseek/deepseek-r1-distill-llama-70b",),
        "openrouter": ("deepseek/deepseek-r1-distill-llama-70b",),
    },
    # Qwen
    "Qwen/Qwen2.5-72B-Instruct": {
        "fireworks": ("accounts/fireworks/models/qwen2p5-72b-instruct",),
        "novita": ("qwen/qwen-2.5-72b-instruct",),
        "openrouter": ("qwen/qwen-2.5-72b-instruct",),
        "together": ("Qwen/Qwen2.5-72B-Instruct-Turbo",),
    },
    "Qwen/Qwen2.5-Coder-32B-Instruct": {
        "fireworks": ("accounts/fireworks/models/qwen2p5-coder-32b-instruct",),
        "openrouter": ("qwen/qwen-2.5-coder-32b-instruct",),
    },
    "Qwen/QwQ-32B": {
        "fireworks": ("accounts/fireworks/models/qwq-32b",),
        "groq": ("qwen-qwq-32b",),
        "openrouter": ("qwen/qwq-32b",),
    },
    "Qwen/Qwen3-8B": {"openrouter": ("qwen/qwen3-8b",)},
    "Qwen/Qwen3-14B": {"openrouter": ("qwen/qwen3-14b",)},
    "Qwen/Qwen3-32B": {
        "cerebras": ("qwen-3-32b",),
        "groq": ("qwen/qwen3-32b",),
        "openrouter": ("qwen/qwen3-32b",),
    },
    "Qwen/Qwen3-30B-A3B": {
        "fireworks": ("accounts/fireworks/models/qwen3-30b-a3b",),
        "openrouter": ("qwen/qwen3-30b-a3b",),
    },
    "Qwen/Qwen3-235B-A22B": {
        "fireworks": ("accounts/fireworks/models/qwen3-235b-a22b",),
        "openrouter": ("qwen/qwen3-235b-a22b",),
    },
    "Qwen/Qwen3-235B-A22B-Instruct-2507": {
        "cerebras": ("qwen-3-235b-a22b-instruct-2507",),
        "fireworks": ("accounts/fireworks/models/qwen3-235b-a22b-instruct-2507",),
        "novita": ("qwen/qwen3-235b-a22b-instruct-2507",),
        "openrouter": ("qwen/qwen3-235b-a22b-2507",),
        "together": ("Qwen/Qwen3-235B-A22B-Instruct-2507-tput",),
    },
    "Qwen/Qwen3-235B-A22B-Thinking-2507": {
        "cerebras": ("qwen-3-235b-a22b-thinking-2507",),
        "fireworks": ("accounts/fireworks/models/qwen3-235b-a22b-thinking-2507",),
        "novita": ("qwen/qwen3-235b-a22b-thinking-2507",),
        "openrouter": ("qwen/qwen3-235b-a22b-thinking-2507",),
    },
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": {
        "cerebras": ("qwen-3-coder-480b",),
        "fireworks": ("accounts/fireworks/models/qwen3-coder-480b-a35b-instruct",),
        "novita": ("qwen/qwen3-coder-480b-a35b-instruct",),
        "openrouter": ("qwen/qwen3-coder",),
        "together": ("Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8",),
    },
    "Qwen/Qwen3-Next-80B-A3B-Instruct": {
        "fireworks": ("accounts/fireworks/models/qwen3-next-80b-a3b-instruct",),
        "novita": ("qwen/qwen3-next-80b-a3b-instruct",),
        "openrouter": ("qwen/qwen3-next-80b-a3b-instruct",),
    },
    # Moonshot AI
    "moonshotai/Kimi-K2-Instruct": {
        "fireworks": ("accounts/fireworks/models/kimi-k2-instruct",),
        "groq": ("moonshotai/kimi-k2-instruct",),
        "novita": ("moonshotai/kimi-k2-instruct",),
        "openrouter": ("moonshotai/kimi-k2",),
    },
    "moonshotai/Kimi-K2-Instruct-0905": {
        "fireworks": ("accounts/fireworks/models/kimi-k2-instruct-0905",),
        "groq": ("moonshotai/kimi-k2-instruct-0905",),
        "novita": ("moonshotai/kimi-k2-0905",),
        "openrouter": ("moonshotai/kimi-k2-0905",),
    },
    "moonshotai/Kimi-K2-Thinking": {
        "fireworks": ("accounts/fireworks/models/kimi-k2-thinking",),
        "novita": ("moonshotai/kimi-k2-thinking",),
        "openrouter": ("moonshotai/kimi-k2-thinking",),
    },
    # Z.ai
    "zai-org/GLM-4.5": {
        "fireworks": ("accounts/fireworks/models/glm-4p5",),
        "novita": ("zai-org/glm-4.5",),
        "openrouter": ("z-ai/glm-4.5",),
    },
    "zai-org/GLM-4.5-Air": {
        "fireworks": ("accounts/fireworks/models/glm-4p5-air",),
        "novita": ("zai-org/glm-4.5-air",),
        "openrouter": ("z-ai/glm-4.5-air",),
        "together": ("zai-org/GLM-4.5-Air-FP8",),
    },
    "zai-org/GLM-4.6": {
        "cerebras": ("zai-glm-4.6",),
        "fireworks": ("accounts/fireworks/models/glm-4p6",),
        "novita": ("zai-org/glm-4.6",),
        "openrouter": ("z-ai/glm-4.6",),
    },
    # MiniMax
    "MiniMaxAI/MiniMax-M2": {
        "fireworks": ("accounts/fireworks/models/minimax-m2",),
        "novita": ("minimax/minimax-m2",),
        "openrouter": ("minimax/minimax-m2",),
    },
    # Google's open models
    "google/gemma-3-27b-it": {
        "fireworks": ("accounts/fireworks/models/gemma-3-27b-it",),
    },
    "google/gemma-2-9b-it": {"groq": ("gemma2-9b-it",)},
    # Mistral's open models
    "mistralai/Mistral-7B-Instruct-v0.3": {"openrouter": ("mistralai/mistral-7b-instruct-v0.3",)},
    "mistralai/Mixtral-8x22B-Instruct-v0.1": {
        "fireworks": ("accounts/fireworks/models/mixtral-8x22b-instruct",),
        "openrouter": ("mistralai/mixtral-8x22b-instruct",),
    },
    "mistralai/Mistral-Small-24B-Instruct-2501": {
        "fireworks": ("accounts/fireworks/models/mistral-small-24b-instruct-2501",),
        "mistral": ("mistral-small-2501",),
        "openrouter": ("mistralai/mistral-small-24b-instruct-2501",),
    },
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506": {
        "mistral": ("mistral-small-2506",),
        "openrouter": ("mistralai/mistral-small-3.2-24b-instruct",),
    },
    # Microsoft
    "microsoft/phi-4": {"fireworks": ("accounts/fireworks/models/phi-4",)},
    # Anthropic: its own ids are dated, an aggregator's have a point
    "anthropic/claude-3-haiku": {
        "anthropic": ("claude-3-haiku-20240307",),
        "bedrock": ("anthropic.claude-3-haiku-20240307-v1:0",),
    },
    "anthropic/claude-3.5-haiku": {
        "anthropic": ("claude-3-5-haiku-20241022",),
        "bedrock": ("anthropic.claude-3-5-haiku-20241022-v1:0",),
    },
    "anthropic/claude-3.7-sonnet": {
        "anthropic": ("claude-3-7-sonnet-20250219",),
        "bedrock": ("anthropic.claude-3-7-sonnet-20250219-v1:0",),
    },
    "anthropic/claude-sonnet-4": {
        "anthropic": ("claude-sonnet-4-20250514",),
        "bedrock": ("anthropic.claude-sonnet-4-20250514-v1:0",),
    },
    "anthropic/claude-opus-4": {
        "anthropic": ("claude-opus-4-20250514",),
        "bedrock": ("anthropic.claude-opus-4-20250514-v1:0",),
    },
    "anthropic/claude-opus-4.1": {
        "anthropic": ("claude-opus-4-1-20250805",),
        "bedrock": ("anthropic.claude-opus-4-1-20250805-v1:0",),
    },
    "anthropic/claude-sonnet-4.5": {
        "anthropic": ("claude-sonnet-4-5-20250929",),
        "bedrock": ("anthropic.claude-sonnet-4-5-20250929-v1:0",),
    },
    "anthropic/claude-haiku-4.5": {
        "anthropic": ("claude-haiku-4-5-20251001",),
        "bedrock": ("anthropic.claude-haiku-4-5-20251001-v1:0",),
    },
    "anthropic/claude-opus-4.5": {
        "anthropic": ("claude-opus-4-5-20251101",),
        "bedrock": ("anthropic.claude-opus-4-5-20251101-v1:0",),
    },
}
"""Canonical id -> vendor -> the ids by which that vendor knows it, where they are spelt differently."""
