"""A vendor's own /completions: the port `ChatVendor` for callers of the same dialect, whose bytes it passes on.

What an answer costs and how a stream ends is written as in Chat Completions, so that its reader reads both.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from adapters.dialects.openai_chat.client import OpenAIChatStream, dropped_members, read_answer, write_request
from adapters.dialects.openai_chat.errors import read_fault
from adapters.dialects.openai_chat.quirks import STANDARD, Quirks
from adapters.dialects.openai_completions.server import OUTPUT_MAX_UNSAID
from adapters.dialects.openai_tasks.endpoint import Credentials
from adapters.dialects.translation import DROPPED_HEADER
from adapters.transport.http import ERROR_BYTES_MAX, Answer, VendorHttp
from domain.catalog import Dialect
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import ChatAnswer, ChatStream

PATH = "/completions"


class CompletionsStream(OpenAIChatStream):
    """A vendor's stream of texts."""

    dialect = Dialect.OPENAI_COMPLETIONS


class CompletionsEndpoint:
    def __init__(
        self,
        slug: VendorSlug,
        base_url: str,
        credentials: Credentials,
        http: VendorHttp,
        *,
        path: str | None = None,
        dropped: frozenset[str] = frozenset(),
        asks_for_usage: bool = True,
        quirks: Quirks = STANDARD,
    ) -> None:
        self.slug = slug
        self._url = base_url.rstrip("/") + (path or PATH)
        self._credentials = credentials
        self._http = http
        self._dropped = dropped
        self._asks_for_usage = asks_for_usage
        self._quirks = quirks

    async def complete(self, call: ChatCall) -> ChatAnswer:
        answer = await self._posted(call)
        try:
            read = read_answer(await answer.read(), self._shown(call), self._quirks)
        except VendorFault as fault:
            raise self._redacted(fault) from None
        finally:
            answer.close()
        return replace(read, dialect=Dialect.OPENAI_COMPLETIONS)

    async def stream(self, call: ChatCall) -> ChatStream:
        answer = await self._posted(call)
        if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            return CompletionsStream(
                answer.chunks(),
                answer.close,
                self._shown(call),
                shows_usage=call.request.wants_usage,
                quirks=self._quirks,
            )
        try:
            body = await answer.read(ERROR_BYTES_MAX)
        finally:
            answer.close()
        fault = self._fault(None, answer.headers, body)
        if not fault.message:
            fault = VendorFault(FaultKind.MALFORMED, "it did not answer with a stream")
        raise self._redacted(fault)

    async def _posted(self, call: ChatCall) -> Answer:
        if call.output_limit is not None and call.request.output_max is None:
            # Only credit sets a limit; it must not make the answer longer than the usual one.
            call = replace(call, output_limit=min(call.output_limit, OUTPUT_MAX_UNSAID))
        body = write_request(
            call, output_limit_field="max_tokens", dropped=self._dropped, asks_for_usage=self._asks_for_usage
        )
        headers = {**self._credentials(), "Content-Type": "application/json"}
        answer = await self._http.post(self._url, headers, body, call.first_byte_s)
        if answer.status == 200:
            return answer
        try:
            refusal = await answer.read(ERROR_BYTES_MAX)
        except VendorFault:
            refusal = b""
        finally:
            answer.close()
        raise self._redacted(self._fault(answer.status, answer.headers, refusal))

    def _shown(self, call: ChatCall) -> dict[str, str]:
        dropped = dropped_members(call, self._dropped)
        return {DROPPED_HEADER: ", ".join(dropped)} if dropped else {}

    def _fault(self, status: int | None, headers: Mapping[str, str], body: bytes) -> VendorFault:
        return read_fault(status, headers, body, self._quirks.fault_words, self._quirks.extension)

    def _redacted(self, fault: VendorFault) -> VendorFault:
        fault.message = self._http.redacted(fault.message)
        return fault
