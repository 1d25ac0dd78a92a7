"""The only place that speaks HTTP: bounded in time and size, polite to the services, and silent about keys.

A refresh has a few seconds in all. Whatever a server does (refuses, hangs, sends a byte a second, never ends), `ask`
returns or raises a ForecastError by then. A host that says "later" (429, 503) is not asked again before that time, also
not by the next refresh. Nothing of a key is in a message: those are made from the host, the path and the status.
"""

import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from http.cookiejar import DefaultCookiePolicy
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from slurm_carbon import __version__
from slurm_carbon.errors import ForecastError
from slurm_carbon.units import duration_text, printable

if TYPE_CHECKING:
    import requests

MAX_BYTES = 16 << 20
CONNECT_S = 3.0
READ_S = 5.0
REQUEST_S = 6.0  # one request, with its repetitions
REFRESH_S = 12.0  # all requests of one refresh
LATER_S = 300  # a host that says 429 without Retry-After
LONGEST_LATER_S = 86400
SHORT_LATER_S = 2.0  # a wait that is worth sitting out
BURST = 40
RATE_PER_S = 6.0  # ENTSO-E bans who asks more than 400 times a minute


class Secret:
    """A key, password or token: only `reveal` shows it, no print, log or traceback does."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def reveal(self) -> str:
        """The secret itself: for the request that needs it."""
        return self._text

    def hidden_in(self, text: str) -> str:
        """A text of others, with every occurrence of the secret taken out."""
        from base64 import b64encode
        from urllib.parse import quote, quote_plus

        parts = [self._text, *re.split("[: ]", self._text)]
        forms = [form(part) for part in parts for form in (str, quote, quote_plus, lambda part: quote(part, safe=""))]
        forms.append(b64encode(self._text.encode()).decode())
        for part in sorted(forms, key=len, reverse=True):
            text = text.replace(part, "…") if len(part) > 3 and part != "Bearer" else text
        return text


class Request(NamedTuple):
    """A GET. Secrets are kept apart, so that the rest may be shown."""

    url: str
    query: tuple[tuple[str, str], ...] = ()
    secret_query: tuple[tuple[str, Secret], ...] = ()
    secret_headers: tuple[tuple[str, Secret], ...] = ()
    login: Secret | None = None  # user:password, by HTTP Basic

    @property
    def host(self) -> str:
        """Host and port."""
        return self._split[0]

    @property
    def shown(self) -> str:
        """Host and path: what messages call it."""
        return "".join(self._split)

    @property
    def _split(self) -> tuple[str, str]:
        try:
            parts = urlsplit(self.url)
        except ValueError:
            return "the address", ""
        return parts.netloc.rpartition("@")[2], parts.path

    def hides(self, text: str) -> str:
        """A text of the server, fit for a message: one short line of printable characters, without our secrets."""
        for secret in (*(s for _, s in self.secret_query), *(s for _, s in self.secret_headers), self.login):
            text = secret.hidden_in(text) if secret else text
        return printable(text)[:120].strip()


class StatusError(ForecastError):
    """An answer with a status that is no success: the service works, but not for this request."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


Ask = Callable[[Request], bytes]


class Web:
    """Asks over the network, for one refresh; any number of threads may share it, and what is asked twice is fetched once.

    `later` has, by host, the epoch second before which it must not be asked; keep it for the next refresh.
    """

    def __init__(
        self, seconds: float = REFRESH_S, later: dict[str, float] | None = None, *,
        request_s: float = REQUEST_S, connect_s: float = CONNECT_S, read_s: float = READ_S,
        pause: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._clock = clock
        self.end = clock() + seconds
        self.later = dict(later or {})
        self._request_s, self._connect_s, self._read_s = request_s, connect_s, read_s
        self._pause = pause
        self._dead: dict[str, str] = {}
        self._answers: dict[Request, Future[bytes]] = {}
        self._tokens: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()
        self._session: requests.Session | None = None

    @property
    def left_s(self) -> float:
        """Seconds that are left to all requests."""
        return self.end - self._clock()

    def ask(self, request: Request) -> bytes:
        """The body of the answer. Raises ForecastError, or StatusError with a status."""
        with self._lock:
            first = request not in self._answers
            answer = self._answers.setdefault(request, Future())
        if first:
            try:
                answer.set_result(self._ask(request))
            except ForecastError as error:
                answer.set_exception(error)
            except BaseException:
                answer.set_exception(ForecastError(f"{request.shown}: the question could not be asked"))
                raise
        try:
            return answer.result(max(0.1, self.left_s))
        except TimeoutError:
            raise ForecastError(f"{request.shown}: no answer in the time for this refresh") from None

    def _ask(self, request: Request) -> bytes:
        wait_s = self.later.get(request.host, 0) - time.time()
        if wait_s > 0:
            raise ForecastError(f"{request.shown}: asked us to wait, another {duration_text(max(60, wait_s))}")
        if request.host in self._dead:
            raise ForecastError(f"{request.shown}: {self._dead[request.host]}")
        self._wait_for_turn(request)
        limit_s = min(self._request_s, self.left_s)
        if limit_s <= 0:
            raise ForecastError(f"{request.shown}: not asked, there is no time left in this refresh")
        box: SimpleQueue[bytes | Exception] = SimpleQueue()

        def work() -> None:
            try:
                box.put(self._fetch(request, self._clock() + limit_s))
            except Exception as error:  # noqa: BLE001 - whoever waits raises it again
                box.put(error)

        # a server that sends its header a byte at a time never times out by itself: nobody waits for this thread
        threading.Thread(target=work, daemon=True, name=f"ask {request.host}").start()
        try:
            found = box.get(timeout=limit_s)
        except Empty:
            found = ForecastError(f"{request.shown}: no complete answer within {limit_s:.0f} s")
            self._dead[request.host] = "has not answered before"
        if isinstance(found, Exception):
            raise found
        return found

    def _wait_for_turn(self, request: Request) -> None:
        """Wait until the host's rate limit lets us through."""
        with self._lock:
            now = self._clock()
            tokens, at = self._tokens.get(request.host, (float(BURST), now))
            tokens = min(float(BURST), tokens + (now - at) * RATE_PER_S) - 1
            self._tokens[request.host] = (tokens, now)
        wait_s = max(0.0, -tokens / RATE_PER_S)
        if wait_s > self.left_s:
            raise ForecastError(f"{request.shown}: not asked, that would be too many questions for one refresh")
        if wait_s > 0:
            self._pause(wait_s)

    def _fetch(self, request: Request, end: float) -> bytes:
        import requests
        from urllib3.exceptions import HTTPError

        for last in (False, True):
            try:
                response = self._send(request, max(0.1, end - self._clock()))
                with response:
                    body = _body(request, response, end, self._clock)
            except (requests.RequestException, HTTPError, OSError, ValueError) as error:
                why = _in_words(error)
                self._dead[request.host] = why
                raise ForecastError(f"{request.shown}: {why}") from None
            wait_s = self._asked_to_wait(response)
            if wait_s is None or last or wait_s > SHORT_LATER_S or self._clock() + wait_s >= end:
                break
            self._pause(wait_s)
        if wait_s is not None:
            self.later[request.host] = time.time() + wait_s
        if response.status_code != 200:
            raise _refused(request, response.status_code, response.headers.get("Location", ""), body)
        if "html" in response.headers.get("Content-Type", ""):
            raise ForecastError(f"{request.shown}: a web page instead of data; is a proxy or login in between?")
        return body

    def _send(self, request: Request, left_s: float) -> "requests.Response":
        user, colon, password = request.login.reveal().partition(":") if request.login else ("", "", "")
        return self._open().get(
            request.url,
            params=[*request.query, *((name, secret.reveal()) for name, secret in request.secret_query)],
            headers={name: secret.reveal() for name, secret in request.secret_headers},
            auth=(user, password) if colon else _no_netrc,
            timeout=(min(self._connect_s, left_s), min(self._read_s, left_s)),
            stream=True,
            allow_redirects=False,  # a key must not follow to wherever an answer points
        )

    def _open(self) -> "requests.Session":
        with self._lock:
            if self._session is None:
                import requests
                from requests.adapters import HTTPAdapter
                from urllib3 import Retry

                self._session = requests.Session()
                self._session.headers["User-Agent"] = f"slurm-carbon/{__version__}"
                self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
                # what a moment may mend: a connection that was cut, a gateway without a server
                retry = Retry(
                    total=1, connect=0, redirect=0, backoff_factor=0.2, status_forcelist=(500, 502, 504),
                    raise_on_status=False, respect_retry_after_header=False,
                )  # fmt: skip
                adapter = HTTPAdapter(max_retries=retry, pool_maxsize=BURST)
                self._session.mount("https://", adapter)
                self._session.mount("http://", adapter)
            return self._session

    def _asked_to_wait(self, response: "requests.Response") -> float | None:
        """Seconds that a host wants to be left alone; None if it does not say so."""
        if response.status_code not in (429, 503):
            return None
        said = response.headers.get("Retry-After", "").strip()
        if said.isascii() and said.isdigit():
            return min(float(said[:12]), LONGEST_LATER_S)
        from email.utils import parsedate_to_datetime

        try:
            return min(max(0.0, parsedate_to_datetime(said).timestamp() - time.time()), LONGEST_LATER_S)
        except (TypeError, ValueError, OverflowError):
            return float(LATER_S) if response.status_code == 429 else None


def _no_netrc(prepared: Any) -> Any:
    """Leaves a request as it is: with any other `auth`, requests would replace our header by one from ~/.netrc."""
    return prepared


def _body(request: Request, response: "requests.Response", end: float, clock: Callable[[], float]) -> bytes:
    parts, size = [], 0
    for part in response.iter_content(1 << 16):
        size += len(part)
        if size > MAX_BYTES:
            raise ForecastError(f"{request.shown}: answers more than {MAX_BYTES >> 20} MiB")
        if clock() > end:
            raise ForecastError(f"{request.shown}: too slow, {size} bytes in the time there is")
        parts.append(part)
    return b"".join(parts)


def _in_words(error: Exception) -> str:
    """What went wrong with a connection. Never the text of the error: it has the whole address, with a key in it."""
    import requests

    for kind, words in (
        (requests.exceptions.ConnectTimeout, "no connection in the time that we wait"),
        (requests.exceptions.ProxyError, "the proxy lets nothing through"),
        (requests.exceptions.SSLError, "its certificate cannot be verified"),
        (requests.exceptions.ReadTimeout, "no answer in the time that we wait"),
        (requests.exceptions.InvalidURL, "is no address"),
        (requests.exceptions.MissingSchema, "is no address: it must begin with https:// or http://"),
        (requests.exceptions.InvalidSchema, "is no address: it must begin with https:// or http://"),
        (requests.exceptions.ContentDecodingError, "the answer is damaged"),
        (requests.exceptions.ChunkedEncodingError, "the answer was cut short"),
    ):
        if isinstance(error, kind):
            return words
    text = str(error)
    if "NameResolution" in text or "resolve" in text:
        return "its name is not known here; is there a network, or a proxy to set?"
    if "refused" in text:
        return "refuses the connection"
    if "timed out" in text:
        return "no answer in the time that we wait"
    return "the answer was cut short" if "IncompleteRead" in text else "no connection, or it was cut"


_STATUS = {
    301: "moved", 302: "moved", 303: "moved", 307: "moved", 308: "moved",
    401: "the key is refused, or it has been used too often", 403: "the key does not allow this", 404: "it has nothing of this",
    429: "asked too often",
}  # fmt: skip


def _refused(request: Request, status: int, target: str, body: bytes) -> StatusError:
    words = _STATUS.get(status, "it is out of order" if status >= 500 else "it does not understand the question")
    if words == "moved":
        words += f" to {request.hides(_host(target))}; we do not follow: set its `url`"
    said = request.hides(_message(body))
    return StatusError(f"{request.shown}: HTTP {status}, {words}" + (f" ({said})" if said else ""), status)


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or "somewhere else"
    except ValueError:
        return "somewhere else"


def _message(body: bytes) -> str:
    """What a service says of an error, in the forms that they use."""
    try:
        raw = json.loads(body)
        for _ in range(2):
            raw = next((raw[name] for name in ("message", "error", "detail", "title") if name in raw), raw)
        return raw if isinstance(raw, str) else ""
    except (ValueError, TypeError, RecursionError):
        return ""


def parsed(body: bytes, request: Request) -> Any:
    """JSON, strictly: NaN and Infinity are none. Raises ForecastError."""

    def refuse(word: str) -> Any:
        raise ValueError(word)

    try:
        return json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise ForecastError(f"{request.shown}: the answer is no JSON") from None


class Canned:
    """Stands in for the network: answers from a table of (part of the address, body or error), and notes what was asked."""

    def __init__(self, *answers: tuple[str, bytes | Exception]) -> None:
        self.answers = answers
        self.asked: list[Request] = []

    def ask(self, request: Request) -> bytes:
        """The first answer whose part occurs in the address."""
        self.asked.append(request)
        address = request.url + "?" + "&".join(f"{name}={text}" for name, text in request.query)
        for part, found in self.answers:
            if part in address:
                if isinstance(found, Exception):
                    raise found
                return found
        raise ForecastError(f"{request.shown}: no connection, or it was cut")
