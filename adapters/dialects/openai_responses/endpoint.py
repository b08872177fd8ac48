"""A vendor's Responses endpoint: the port `ChatVendor` for callers of the same dialect."""

from __future__ import annotations

from adapters.dialects.json_members import Members
from adapters.dialects.openai_chat.errors import read_fault
from adapters.dialects.openai_responses.client import ResponsesStream, read_answer, write_request
from adapters.dialects.openai_tasks.endpoint import Credentials
from adapters.dialects.translation import DROPPED_HEADER
from adapters.transport.http import ERROR_BYTES_MAX, Answer, VendorHttp
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import ChatAnswer, ChatStream


class ResponsesEndpoint:
    def __init__(
        self,
        slug: VendorSlug,
        base_url: str,
        credentials: Credentials,
        http: VendorHttp,
        *,
        dropped: frozenset[str] = frozenset(),
    ) -> None:
        self.slug = slug
        self._url = base_url.rstrip("/") + "/responses"
        self._credentials = credentials
        self._http = http
        self._dropped = dropped

    async def complete(self, call: ChatCall) -> ChatAnswer:
        answer = await self._posted(call)
        try:
            return read_answer(await answer.read(), self._shown(call))
        except VendorFault as fault:
            raise self._redacted(fault) from None
        finally:
            answer.close()

    async def stream(self, call: ChatCall) -> ChatStream:
        answer = await self._posted(call)
        if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            return ResponsesStream(answer.chunks(), answer.close, self._shown(call))
        try:
            body = await answer.read(ERROR_BYTES_MAX)
        finally:
            answer.close()
        fault = read_fault(None, answer.headers, body)
        if not fault.message:
            fault = VendorFault(FaultKind.MALFORMED, "it did not answer with a stream")
        raise self._redacted(fault)

    async def _posted(self, call: ChatCall) -> Answer:
        headers = {**self._credentials(), "Content-Type": "application/json"}
        answer = await self._http.post(self._url, headers, write_request(call, self._dropped), call.first_byte_s)
        if answer.status == 200:
            return answer
        try:
            refusal = await answer.read(ERROR_BYTES_MAX)
        except VendorFault:
            refusal = b""
        finally:
            answer.close()
        raise self._redacted(read_fault(answer.status, answer.headers, refusal))

    def _shown(self, call: ChatCall) -> dict[str, str]:
        parts = call.request.parsed
        if not self._dropped or not isinstance(parts, Members):
            return {}
        dropped = sorted(self._dropped & parts.values.keys())
        return {DROPPED_HEADER: ", ".join(dropped)} if dropped else {}

    def _redacted(self, fault: VendorFault) -> VendorFault:
        fault.message = self._http.redacted(fault.message)
        return fault
