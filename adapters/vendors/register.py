"""Every vendor that ships with the product, by name; the register is explicit so that nothing is found by magic."""

from typing import Final

from adapters.vendors.aimo import AIMO
from adapters.vendors.anthropic import ANTHROPIC, AnthropicSpeaking
from adapters.vendors.cerebras import CEREBRAS
from adapters.vendors.chutes import CHUTES
from adapters.vendors.deepinfra import DEEPINFRA
from adapters.vendors.deepseek import DEEPSEEK
from adapters.vendors.featherless import FEATHERLESS
from adapters.vendors.fireworks import FIREWORKS
from adapters.vendors.groq import GROQ
from adapters.vendors.huggingface import HUGGINGFACE
from adapters.vendors.mistral import MISTRAL
from adapters.vendors.near import NEAR
from adapters.vendors.nebius import NEBIUS
from adapters.vendors.novita import NOVITA
from adapters.vendors.ollama import OLLAMA
from adapters.vendors.openai import OPENAI
from adapters.vendors.openai_compatible import OpenAICompatible
from adapters.vendors.openrouter import OPENROUTER
from adapters.vendors.portkey import PORTKEY
from adapters.vendors.together import TOGETHER
from adapters.vendors.vllm import VLLM
from adapters.vendors.xai import XAI

ANTHROPIC_SPEAKING: Final[tuple[AnthropicSpeaking, ...]] = (ANTHROPIC,)
OPENAI_COMPATIBLE: Final[tuple[OpenAICompatible, ...]] = (
    AIMO,
    CEREBRAS,
    CHUTES,
    DEEPINFRA,
    DEEPSEEK,
    FEATHERLESS,
    FIREWORKS,
    GROQ,
    HUGGINGFACE,
    MISTRAL,
    NEAR,
    NEBIUS,
    NOVITA,
    OLLAMA,
    OPENAI,
    OPENROUTER,
    PORTKEY,
    TOGETHER,
    VLLM,
    XAI,
)
