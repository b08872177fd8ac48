"""Names for the identifiers that cross module borders; all are opaque strings made by the `IdSource` port."""

from __future__ import annotations

from typing import NewType

AccountId = NewType("AccountId", str)
KeyId = NewType("KeyId", str)
LotId = NewType("LotId", str)
HoldId = NewType("HoldId", str)
TransferId = NewType("TransferId", str)
RequestId = NewType("RequestId", str)
PriceId = NewType("PriceId", str)
ModelId = NewType("ModelId", str)
VendorSlug = NewType("VendorSlug", str)
PlanId = NewType("PlanId", str)
