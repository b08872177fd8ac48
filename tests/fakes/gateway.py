"""The use cases about keys, accounts and credit, built on memory, as tests want them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from adapters.memory.ledger import MemoryLedger
from adapters.memory.limiter import MemoryLimiter
from adapters.memory.repositories import MemoryAccounts, MemoryKeys, MemoryRevisions
from application.accounts import CreateAccount, FindAccount, ListAccounts, RestoreAccount, SuspendAccount
from application.bootstrap import Bootstrap
from application.credits import AdjustCredit, GrantCredit, ListTransactions, ShowBalance
from application.keys import Authenticate, ChangeKey, Issued, IssueKey, ListKeys, RevokeKey
from domain.accounts import Account
from domain.ids import AccountId
from domain.keys import ADMIN_KEY_SCOPES, ApiKey, KeyPolicy, KeyRing, Secret
from domain.limits import LimitSet
from domain.money import ZERO, Usd
from tests.fakes.time import CountingIds, FakeClock

PEPPER = b"p" * 32
OPERATORS_LIMITS = LimitSet(requests_per_minute=600, burst=200)
FAILURES_MAX = 20


class WatchedKeys(MemoryKeys):
    """Counts the lookups by digest, and can be made to wait before it answers."""

    lookups = 0
    answers: Callable[[], object] | None = None

    async def by_digest(self, digests: Sequence[str]) -> tuple[ApiKey, Account] | None:
        self.lookups += 1
        found = await super().by_digest(digests)
        if self.answers is not None:
            await self.answers()  # type: ignore[misc]
        return found


def counted_bytes() -> Callable[[int], bytes]:
    numbers = count(1)
    return lambda size: next(numbers).to_bytes(size)


@dataclass
class Gateway:
    clock: FakeClock = field(default_factory=FakeClock)
    ids: CountingIds = field(default_factory=CountingIds)
    revisions: MemoryRevisions = field(default_factory=MemoryRevisions)
    ring: KeyRing = field(default_factory=lambda: KeyRing({"v1": PEPPER}))

    def __post_init__(self) -> None:
        self.accounts = MemoryAccounts(self.revisions)
        self.keys = WatchedKeys(self.accounts, self.revisions)
        self.ledger = MemoryLedger()
        self.limiter = MemoryLimiter(self.clock)
        self.random_bytes = counted_bytes()
        self.authenticate = Authenticate(self.keys, self.ring, self.limiter, self.clock, OPERATORS_LIMITS, FAILURES_MAX)
        forget = self.authenticate.forget_all
        self.issue_key = IssueKey(self.keys, self.ring, self.clock, self.ids, self.random_bytes)
        self.list_keys = ListKeys(self.keys)
        self.change_key = ChangeKey(self.keys, self.clock, forget)
        self.revoke_key = RevokeKey(self.keys, self.clock, forget)
        self.create_account = CreateAccount(self.accounts, self.clock, self.ids)
        self.list_accounts = ListAccounts(self.accounts)
        self.find_account = FindAccount(self.accounts, "admin@localhost")
        self.suspend_account = SuspendAccount(self.accounts, self.keys, self.clock, forget)
        self.restore_account = RestoreAccount(self.accounts, forget)
        self.grant_credit = GrantCredit(self.accounts, self.ledger, self.clock, self.ids)
        self.adjust_credit = AdjustCredit(self.grant_credit)
        self.show_balance = ShowBalance(self.ledger, self.clock)
        self.list_transactions = ListTransactions(self.ledger)

    def bootstrap(self, admin_key: str | None = None, play_credit: Usd = ZERO) -> Bootstrap:
        return Bootstrap(
            self.accounts,
            self.keys,
            self.ledger,
            self.ring,
            self.clock,
            self.ids,
            self.random_bytes,
            "admin@localhost",
            Secret(admin_key) if admin_key else None,
            play_credit,
        )

    async def customer(self, email: str = "ann@example.org", policy: KeyPolicy | None = None) -> Issued:
        """An account with a key."""
        account = await self.create_account(email)
        return await self.issue_key(account.id, "first", policy=policy)

    async def admin(self) -> Issued:
        return await self.customer("boss@example.org", KeyPolicy(scopes=ADMIN_KEY_SCOPES))

    async def spendable(self, account_id: AccountId) -> Usd:
        return (await self.show_balance(account_id)).spendable
