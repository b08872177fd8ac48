"""Every vendor that ships with the product, by name; the register is explicit so that nothing is found by magic."""

from typing import Final

from adapters.vendors.openai import OPENAI
from adapters.vendors.openai_compatible import OpenAICompatible

OPENAI_COMPATIBLE: Final[tuple[OpenAICompatible, ...]] = (OPENAI,)
