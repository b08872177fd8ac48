"""/v1/generations: what became of one request, and what it cost."""

from __future__ import annotations

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from application.generations import ShowGeneration
from domain.access import Caller
from domain.ids import RequestId
from domain.keys import Scope
from entrypoints.http.guards import Needs
from entrypoints.http.views import GenerationView, shown_generation


class GenerationController(Controller):
    path = "/v1/generations"
    tags = ("Inference",)

    @get("/{request_id:str}", guards=[Needs(Scope.ACCOUNT_READ)])
    async def show(
        self,
        request_id: FromPath[str],
        caller: NamedDependency[Caller],
        show_generation: NamedDependency[ShowGeneration],
    ) -> GenerationView:
        """The record of a request by its `x-request-id`: tokens, price, cost, every vendor that was tried."""
        return shown_generation(await show_generation(caller.account_id, RequestId(request_id)))
