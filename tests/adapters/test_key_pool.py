"""A vendor with several keys is as good as its best one."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from adapters.vendors.key_pool import PARK_S, PARK_S_MAX, REST_S, KeyPool, PooledVendor, split_keys
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import LISTED, ListedModel
from tests.fakes.chat import ActingVendor, request
from tests.fakes.time import FakeClock
from tests.fakes.upstream import completion

pytestmark = pytest.mark.anyio

KEYS = ("sk-one", "sk-two", "sk-three")


class Lock:
    """A vendor that refuses some keys, each for its own reason."""

    def __init__(self, **refused: VendorFault) -> None:
        self.refused = {name.replace("_", "-"): fault for name, fault in refused.items()}
        self.asked: list[str] = []

    async def __call__(self, key: str) -> str:
        self.asked.append(key)
        if fault := self.refused.get(key):
            raise fault
        return key


def rejected() -> VendorFault:
    return VendorFault(FaultKind.CREDENTIAL_REJECTED, "no", status=401)


def limited(retry_after_s: int | None = None) -> VendorFault:
    return VendorFault(FaultKind.RATE_LIMITED, "slow down", status=429, retry_after_s=retry_after_s)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def pool(clock: FakeClock) -> KeyPool:
    return KeyPool("acme", KEYS, clock)


async def test_keys_share_the_work(pool: KeyPool) -> None:
    vendor = Lock()
    for _ in range(300):
        await pool.call("", vendor)
    assert Counter(vendor.asked) == dict.fromkeys(KEYS, 100)


async def test_a_conversation_keeps_its_key_and_conversations_are_spread(pool: KeyPool) -> None:
    vendor = Lock()
    used = Counter([await pool.call(f"c{number}", vendor) for number in range(300)])
    assert all(used[key] > 60 for key in KEYS)
    assert len({await pool.call("c1", vendor) for _ in range(10)}) == 1


async def test_where_one_key_fails_only_its_conversations_move(pool: KeyPool) -> None:
    before = {name: await pool.call(name, Lock()) for name in map(str, range(60))}
    vendor = Lock(sk_one=rejected())
    after = {name: await pool.call(name, vendor) for name in before}
    assert all(after[name] == key for name, key in before.items() if key != "sk-one")
    assert "sk-one" not in after.values()


@pytest.mark.parametrize("kind", [FaultKind.CREDENTIAL_REJECTED, FaultKind.ACCOUNT_EMPTY])
async def test_a_refused_key_is_parked_for_longer_and_longer(
    pool: KeyPool, clock: FakeClock, kind: FaultKind, caplog: pytest.LogCaptureFixture
) -> None:
    vendor = Lock(sk_one=VendorFault(kind, "no", status=402))
    pause_s = PARK_S
    for _ in range(6):
        vendor.asked.clear()
        with caplog.at_level(logging.ERROR):
            for _ in range(6):
                await pool.call("", vendor)
        assert vendor.asked.count("sk-one") == 1
        assert pool.parked == 1
        clock.advance(pause_s - 0.001)
        await pool.call("", vendor)
        assert vendor.asked.count("sk-one") == 1
        clock.advance(0.002)
        pause_s = min(PARK_S_MAX, pause_s * 2)
    assert len(caplog.records) == 6
    assert "key 1 of 3 at the vendor acme" in caplog.text
    assert "sk-" not in caplog.text


async def test_requests_under_way_with_a_key_park_it_once(pool: KeyPool, clock: FakeClock) -> None:
    [key] = [each for each in pool.in_turn() if each.number == 1]
    for _ in range(5):
        pool.failed(key, rejected())
    clock.advance(PARK_S)
    assert pool.parked == 0


async def test_a_parked_key_that_works_again_is_forgiven(pool: KeyPool, clock: FakeClock) -> None:
    vendor = Lock(sk_one=rejected())
    for _ in range(3):
        await pool.call("", vendor)
    clock.advance(PARK_S)
    vendor.refused.clear()
    for _ in range(3):
        await pool.call("", vendor)
    assert pool.parked == 0
    assert Counter(vendor.asked[-3:]) == dict.fromkeys(KEYS, 1)


async def test_a_limited_key_rests_for_as_long_as_its_vendor_says(pool: KeyPool, clock: FakeClock) -> None:
    vendor = Lock(sk_one=limited(20), sk_two=limited())
    for _ in range(9):
        assert await pool.call("", vendor) == "sk-three"
    assert Counter(vendor.asked) == {"sk-one": 1, "sk-two": 1, "sk-three": 9}
    clock.advance(REST_S)
    for _ in range(4):
        await pool.call("", vendor)
    assert Counter(vendor.asked)["sk-two"] == 2
    assert Counter(vendor.asked)["sk-one"] == 1
    assert pool.parked == 0


async def test_where_every_key_is_limited_the_first_to_be_free_is_told(pool: KeyPool) -> None:
    vendor = Lock(sk_one=limited(20), sk_two=limited(7), sk_three=limited(90))
    with pytest.raises(VendorFault) as caught:
        await pool.call("", vendor)
    assert (caught.value.kind, caught.value.retry_after_s) == (FaultKind.RATE_LIMITED, 7)
    assert len(vendor.asked) == 3
    with pytest.raises(VendorFault):
        await pool.call("", vendor)
    assert vendor.asked[3:] == ["sk-two"]


@pytest.mark.parametrize("kind", [FaultKind.SERVER_ERROR, FaultKind.REFUSED, FaultKind.UNREACHABLE])
async def test_what_another_key_would_not_change_is_not_tried_again(pool: KeyPool, kind: FaultKind) -> None:
    vendor = Lock(**{key.replace("-", "_"): VendorFault(kind, "no") for key in KEYS})
    with pytest.raises(VendorFault) as caught:
        await pool.call("", vendor)
    assert caught.value.kind is kind
    assert len(vendor.asked) == 1
    assert pool.parked == 0


async def test_a_single_key_is_always_tried(clock: FakeClock) -> None:
    pool, vendor = KeyPool("acme", ("sk-one",), clock), Lock(sk_one=rejected())
    for _ in range(3):
        with pytest.raises(VendorFault):
            await pool.call("c", vendor)
    assert len(vendor.asked) == 3


class Keyed(ActingVendor):
    """A vendor as one key reaches it."""

    listing = LISTED

    async def list_models(self) -> list[ListedModel]:
        return []


async def test_a_vendor_with_several_keys_is_one_vendor(clock: FakeClock) -> None:
    good = completion("Hello")
    bad, fine = Keyed("acme", rejected()), Keyed("acme", good)
    vendor = PooledVendor({"sk-bad": bad, "sk-fine": fine}, clock)
    call = ChatCall(request=request(), vendor_model="one")

    assert vendor.slug == "acme"
    for _ in range(3):
        assert (await vendor.complete(call)).body == good
    assert len(bad.calls) == 1
    assert vendor.pool.parked == 1
    assert await vendor.list_models() == []


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("sk-a", ("sk-a",)),
        (" sk-a , sk-b,,sk-a", ("sk-a", "sk-b")),
        ("", ("",)),
        (",", ("",)),
        ('{"type":"service_account","client_id":"1"}', ('{"type":"service_account","client_id":"1"}',)),
    ],
)
def test_several_keys_are_separated_by_commas(text: str, keys: tuple[str, ...]) -> None:
    assert split_keys(text) == keys


def test_no_key_is_shown(pool: KeyPool) -> None:
    assert "sk-" not in repr(pool.in_turn())
