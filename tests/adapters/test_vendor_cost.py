"""What vendors say that an answer costs, and that it is kept beside the charge."""

from __future__ import annotations

import msgspec
import pytest

from adapters.dialects.openai_chat.client import read_answer
from adapters.dialects.vendor_cost import read_vendor_cost
from domain.money import Usd

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@pytest.mark.parametrize(
    ("members", "nanos"),
    [
        ('"cost":0.00014', 140_000),
        ('"cost":1.4e-7', 140),
        ('"cost":0.1,"cost_details":{"upstream_inference_cost":null}', 100_000_000),
        ('"cost":0', 0),
        ('"cost":3', 3 * 10**9),
        ('"cost":{"input_tokens_cost":0.1,"total_cost":0.3}', 300_000_000),
        ('"cost_in_usd_ticks":37756000', 3_775_600),
        ('"cost_in_usd_ticks":5', 1),
        ('"cost_in_usd_ticks":4', 0),
        ('"estimated_cost":2.0999999999999999e-05', 21_000),
        ('"cost":null,"estimated_cost":0.5', 500_000_000),
        ('"cost":null', None),
        ('"cost":"0.1"', None),
        ('"cost":true', None),
        ('"cost":-1', None),
        ('"cost":1e400', None),
        ('"cost":2000000', None),
        ('"cost":{}', None),
        ('"completion_tokens":4', None),
    ],
)
def test_a_told_cost_is_read_from_its_digits(members, nanos):
    expected = None if nanos is None else Usd(nanos)
    assert read_vendor_cost(f'{{"prompt_tokens":3,{members}}}'.encode()) == expected


@pytest.mark.parametrize("usage", [b"", b"cost", b'{"cost":', b'["cost"]', b"\xffcost"])
def test_what_cannot_be_read_tells_nothing(usage):
    assert read_vendor_cost(usage) is None


def test_a_whole_answer_tells_its_cost():
    choices = [{"message": {"content": "Hi"}, "finish_reason": "stop"}]
    answer = read_answer(msgspec.json.encode({"choices": choices, "usage": USAGE | {"estimated_cost": 0.25}}), {})
    assert answer.vendor_cost == Usd.parse("0.25")
    assert read_answer(msgspec.json.encode({"choices": choices, "usage": USAGE}), {}).vendor_cost is None
