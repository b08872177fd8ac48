"""/admin/vendors and /admin/catalog: what the operator switches, names and adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from application.catalog import RefreshCatalog
from application.vendors import OverrideCatalog, ShowVendors, VendorHealth
from domain.access import Caller
from domain.catalog import Capability
from domain.keys import Scope
from domain.ports.catalog import AddedOffer, Alias, Joined, Override, Refreshed
from domain.ports.vendors import ListedModel
from entrypoints.http.guards import Needs

NameWord = Annotated[str, Meta(min_length=1, max_length=200)]
Tokens = Annotated[int, Meta(ge=1, le=10**9)]


class VendorsView(Struct, frozen=True):
    vendors: tuple[VendorHealth, ...]


class AliasBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    alias: NameWord
    model: NameWord
    """The id that it stands for."""


class NameBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    vendor: NameWord
    vendor_model: NameWord
    """As the vendor spells it."""
    model: NameWord
    """The canonical id, `author/slug`."""


class OfferBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    vendor: NameWord
    vendor_model: NameWord
    """As the vendor spells it."""
    model: NameWord | None = None
    """The canonical id; made from the vendor's own where it is not given."""
    name: Annotated[str, Meta(max_length=200)] = ""
    context_length: Tokens | None = None
    output_max: Tokens | None = None
    capabilities: frozenset[Capability] | None = None


class AliasView(Struct, frozen=True, kw_only=True):
    alias: str
    model: str


class NameView(Struct, frozen=True, kw_only=True):
    vendor: str
    vendor_model: str
    model: str


class AddedOfferView(Struct, frozen=True, kw_only=True):
    vendor: str
    vendor_model: str
    model: str | None
    name: str
    context_length: int | None
    output_max: int | None
    capabilities: tuple[str, ...] | None


class OverridesView(Struct, frozen=True, kw_only=True):
    """What the operator has said beside switching vendors."""

    aliases: tuple[AliasView, ...]
    names: tuple[NameView, ...]
    offers: tuple[AddedOfferView, ...]


class AdminVendorController(Controller):
    path = "/admin/vendors"
    tags = ("Administration",)
    guards = (Needs(Scope.ADMIN),)

    @get()
    async def vendors(self, show_vendors: NamedDependency[ShowVendors]) -> VendorsView:
        """Every vendor that is set up: on or off, its list, its health."""
        return VendorsView(tuple(await show_vendors()))

    @get("/{vendor:str}")
    async def vendor(self, vendor: FromPath[str], show_vendors: NamedDependency[ShowVendors]) -> VendorHealth:
        """One vendor."""
        return await show_vendors.one(vendor)

    @post("/{vendor:str}/enable", status_code=200)
    async def enable(
        self,
        vendor: FromPath[str],
        caller: NamedDependency[Caller],
        override_catalog: NamedDependency[OverrideCatalog],
        show_vendors: NamedDependency[ShowVendors],
    ) -> VendorHealth:
        """Let requests go to this vendor, on all processes within two seconds."""
        await override_catalog.switch(vendor, on=True, author=caller.account.email)
        show_vendors.forget()
        return await show_vendors.one(vendor)

    @post("/{vendor:str}/disable", status_code=200)
    async def disable(
        self,
        vendor: FromPath[str],
        caller: NamedDependency[Caller],
        override_catalog: NamedDependency[OverrideCatalog],
        show_vendors: NamedDependency[ShowVendors],
    ) -> VendorHealth:
        """Send this vendor nothing new, on all processes within two seconds; what runs there ends as it does."""
        await override_catalog.switch(vendor, on=False, author=caller.account.email)
        show_vendors.forget()
        return await show_vendors.one(vendor)

    @post("/{vendor:str}/refresh", status_code=200)
    async def refresh(
        self,
        vendor: FromPath[str],
        refresh_catalog: NamedDependency[RefreshCatalog],
        show_vendors: NamedDependency[ShowVendors],
    ) -> Refreshed:
        """Ask this vendor for its models now."""
        (refreshed,) = await refresh_catalog(vendor)
        show_vendors.forget()
        return refreshed


class AdminNamesController(Controller):
    path = "/admin/catalog"
    tags = ("Administration",)
    guards = (Needs(Scope.ADMIN),)

    @get("/overrides")
    async def overrides(self, override_catalog: NamedDependency[OverrideCatalog]) -> OverridesView:
        """The aliases, names and offers that were added here."""
        return shown_overrides(await override_catalog.all())

    @post("/aliases", status_code=200)
    async def alias(
        self,
        data: JSONBody[AliasBody],
        caller: NamedDependency[Caller],
        override_catalog: NamedDependency[OverrideCatalog],
    ) -> AliasView:
        """Let callers call a model by a further name."""
        model = await override_catalog.alias(data.alias, data.model, caller.account.email)
        return AliasView(alias=data.alias, model=model)

    @delete("/aliases", status_code=204)
    async def remove_alias(self, alias: FromQuery[str], override_catalog: NamedDependency[OverrideCatalog]) -> None:
        """Take a name back."""
        await override_catalog.remove_alias(alias)

    @post("/names", status_code=200)
    async def name(
        self,
        data: JSONBody[NameBody],
        caller: NamedDependency[Caller],
        override_catalog: NamedDependency[OverrideCatalog],
    ) -> NameView:
        """Say which model it is that a vendor calls by its own name, so that its offer joins the others' ones."""
        await override_catalog.join(data.vendor, data.vendor_model, data.model, caller.account.email)
        return NameView(vendor=data.vendor, vendor_model=data.vendor_model, model=data.model)

    @delete("/names", status_code=204)
    async def remove_name(
        self,
        vendor: FromQuery[str],
        vendor_model: FromQuery[str],
        override_catalog: NamedDependency[OverrideCatalog],
    ) -> None:
        """Go back to what is known of the vendor's name without you."""
        await override_catalog.part(vendor, vendor_model)

    @post("/offers", status_code=200)
    async def add_offer(
        self,
        data: JSONBody[OfferBody],
        caller: NamedDependency[Caller],
        override_catalog: NamedDependency[OverrideCatalog],
    ) -> AddedOfferView:
        """Add an offer that the vendor's list does not have; it can be asked for once it has a price."""
        row = ListedModel(
            vendor_model=data.vendor_model,
            canonical=data.model or "",
            name=data.name,
            context_length=data.context_length,
            output_max=data.output_max,
            capabilities=data.capabilities,
        )
        await override_catalog.add_offer(data.vendor, row, caller.account.email)
        return _shown_offer(data.vendor, row)

    @delete("/offers", status_code=204)
    async def remove_offer(
        self,
        vendor: FromQuery[str],
        vendor_model: FromQuery[str],
        override_catalog: NamedDependency[OverrideCatalog],
    ) -> None:
        """Take an added offer back."""
        await override_catalog.remove_offer(vendor, vendor_model)


def shown_overrides(said: Sequence[Override]) -> OverridesView:
    return OverridesView(
        aliases=tuple(AliasView(alias=each.name, model=each.model) for each in said if isinstance(each, Alias)),
        names=tuple(
            NameView(vendor=each.vendor, vendor_model=each.vendor_model, model=each.model)
            for each in said
            if isinstance(each, Joined)
        ),
        offers=tuple(_shown_offer(each.vendor, each.row) for each in said if isinstance(each, AddedOffer)),
    )


def _shown_offer(vendor: str, row: ListedModel) -> AddedOfferView:
    return AddedOfferView(
        vendor=vendor,
        vendor_model=row.vendor_model,
        model=row.canonical or None,
        name=row.name,
        context_length=row.context_length,
        output_max=row.output_max,
        capabilities=None if row.capabilities is None else tuple(sorted(row.capabilities)),
    )
