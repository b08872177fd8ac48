"""One HTTP session per vendor, tuned for a gateway.

No total timeout (a stream may run for an hour), no redirects (a credential goes to its own origin only), no limit of
the connection pool but a bulkhead of our own that refuses at once instead of queueing, and no compression, so that
bytes can be passed on and a small body cannot grow into a large one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Final

import aiohttp
from yarl import URL

from domain.inference.faults import FaultKind, VendorFault

CONNECT_TIMEOUT_S: Final = 5.0
POOL_IDLE_S: Final = 60.0
IN_FLIGHT_MAX: Final = 1_000
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
ERROR_BYTES_MAX: Final = 64 * 1024
HEADER_LINE_BYTES_MAX: Final = 32 * 1024
BEARERS_REMEMBERED: Final = 8


class VendorHttp:
    """Requests to one vendor.  Nothing is opened before the first request; `close` ends what is left."""

    def __init__(
        self,
        vendor: str,
        *,
        idle_s: float = 300.0,
        in_flight_max: int = IN_FLIGHT_MAX,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.vendor = vendor
        self._idle_s = idle_s
        self._in_flight_max = in_flight_max
        self._secrets = tuple(secret for secret in secrets if secret)
        self._in_flight = 0
        self._session: aiohttp.ClientSession | None = None
        self._bearers: deque[str] = deque(maxlen=BEARERS_REMEMBERED)
        """The last ones sent: those of clouds are fetched, and change every hour."""

    async def post(self, url: str | URL, headers: Mapping[str, str], body: bytes, first_byte_s: float) -> Answer:
        """A `URL` is sent as it is encoded, for vendors that compare it with a signature."""
        return await self._request("POST", url, headers, body, first_byte_s)

    async def get(self, url: str | URL, headers: Mapping[str, str], first_byte_s: float) -> Answer:
        return await self._request("GET", url, headers, None, first_byte_s)

    def redacted(self, text: str) -> str:
        """`text` without any of the credentials that this session sends."""
        for secret in (*self._secrets, *self._bearers):
            text = text.replace(secret, "***")
        return text

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _request(
        self, method: str, url: str | URL, headers: Mapping[str, str], body: bytes | None, first_byte_s: float
    ) -> Answer:
        """The answer's head, whatever its status.  Raises VendorFault where there is none."""
        if self._in_flight >= self._in_flight_max:
            raise VendorFault(
                FaultKind.OVERLOADED,
                f"{self._in_flight_max} requests to it are running already",
                retry_after_s=1,
            )
        self._in_flight += 1
        bearer = headers.get("Authorization", "")
        if bearer.startswith("Bearer ") and bearer[7:] not in self._bearers and bearer[7:]:
            self._bearers.append(bearer[7:])
        deadline = _Deadline(first_byte_s)
        try:
            response = await self._opened().request(method, url, headers=headers, data=body, allow_redirects=False)
        except BaseException as error:
            self._in_flight -= 1
            if deadline.ended_by(error):
                raise VendorFault(FaultKind.FIRST_BYTE_TIMEOUT, f"it sent nothing within {first_byte_s:g} s") from None
            if isinstance(error, aiohttp.ClientError | OSError | ValueError):
                raise self._fault(error) from None
            raise
        finally:
            deadline.cancel()
        return Answer(response, self, self._idle_s)

    def _ended(self) -> None:
        self._in_flight -= 1

    def _fault(self, error: Exception) -> VendorFault:
        """What went wrong on the wire, in words that name no address and no credential."""
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return VendorFault(FaultKind.UNREACHABLE, f"no connection within {CONNECT_TIMEOUT_S:g} s")
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
            return VendorFault(FaultKind.UNREACHABLE, "its TLS certificate cannot be trusted")
        if isinstance(error, aiohttp.ClientConnectorError):
            return VendorFault(FaultKind.UNREACHABLE, "it refused the connection")
        if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | ConnectionError | TimeoutError):
            return VendorFault(FaultKind.UNREACHABLE, "it closed the connection without an answer")
        return VendorFault(FaultKind.MALFORMED, "its answer is not HTTP that can be read")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, keepalive_timeout=POOL_IDLE_S),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=None),
                auto_decompress=True,
                headers={"Accept-Encoding": "identity", "User-Agent": "gatewayz"},
                max_line_size=HEADER_LINE_BYTES_MAX,
                max_field_size=HEADER_LINE_BYTES_MAX,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


class _Deadline:
    """Cancels the current task after so many seconds, as `asyncio.timeout` does, for less."""

    __slots__ = ("_cancelled_before", "_passed", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None, "only a task can be cancelled"
        self._task = task
        self._cancelled_before = task.cancelling()
        self._passed = False
        self._timer = asyncio.get_running_loop().call_later(seconds, self._pass)

    def ended_by(self, error: BaseException) -> bool:
        """Whether `error` is our own cancellation, which then no longer counts as one."""
        if not self._passed:
            return False
        # Where somebody else cancelled the task as well, that goes on.
        return self._task.uncancel() <= self._cancelled_before and isinstance(error, asyncio.CancelledError)

    def cancel(self) -> None:
        self._timer.cancel()

    def _pass(self) -> None:
        self._passed = True
        self._task.cancel()


class Answer:
    """An answer whose body is still to be read; `close` it in any case."""

    __slots__ = ("_http", "_idle_s", "_open", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, http: VendorHttp, idle_s: float) -> None:
        self._response = response
        self._http = http
        self._idle_s = idle_s
        self._open = True
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self, bytes_max: int = ANSWER_BYTES_MAX) -> bytes:
        """The whole body.  Raises VendorFault where it is too large, breaks off or stands still."""
        content = self._response.content
        try:
            if content.is_eof() and content.total_bytes <= bytes_max:
                # It came with its head, as short answers do: nothing to wait for.
                return content.read_nowait()
            return await self._read_bounded(bytes_max)
        except TimeoutError:
            raise VendorFault(FaultKind.IDLE_TIMEOUT, f"its answer stood still for {self._idle_s:g} s") from None
        except (aiohttp.ClientError, OSError):
            raise VendorFault(FaultKind.BROKEN_OFF, "it broke its answer off") from None

    async def _read_bounded(self, bytes_max: int) -> bytes:
        parts, size = list[bytes](), 0
        chunks = self._response.content.iter_any()
        while True:
            async with asyncio.timeout(self._idle_s):
                chunk = await anext(chunks, b"")
            if not chunk:
                return b"".join(parts)
            size += len(chunk)
            if size > bytes_max:
                raise VendorFault(FaultKind.MALFORMED, f"its answer is larger than {bytes_max} bytes")
            parts.append(chunk)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives.  Raises VendorFault where it breaks off.

        Silence is not ended here: whoever watches the whole request hangs up with `close`.
        """
        content = self._response.content
        try:
            while chunk := await content.readany():
                yield chunk
        except (aiohttp.ClientError, OSError):
            raise VendorFault(FaultKind.BROKEN_OFF, "it broke its answer off") from None

    def close(self) -> None:
        """Hang up, unless the body was read to its end; then the connection is kept for the next request."""
        if self._open:
            self._open = False
            self._http._ended()
            response = self._response
            if not response.content.at_eof():
                response.close()
            elif not response.closed:
                response.release()
