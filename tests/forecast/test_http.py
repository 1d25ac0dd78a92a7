"""The one place that speaks HTTP: polite, bounded, and silent about keys."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import credentials
from slurm_carbon.forecast.http import MAX_BYTES, Request, Secret, StatusError, Web
from slurm_carbon.forecast.store import Store
from tests.forecast.server import Plan, serving

KEY = Secret("k3y-that-nobody-may-see")


def test_a_key_goes_to_the_service_and_nowhere_else(tmp_path: Path) -> None:
    """In the header or the query of the request; not in a message, not in a print of the request, not to a redirect."""
    target = Plan()
    with serving(target) as elsewhere:
        plan = Plan(status=302, headers={"Location": f"{elsewhere}/stolen"})
        with serving(plan) as url:
            asked = Request(f"{url}/x", (("zone", "DE"),), (("token", KEY),), (("auth-token", KEY),))
            with pytest.raises(StatusError, match="we do not follow") as caught:
                Web(5).ask(asked)
    assert plan.seen[0]["auth-token"] == KEY.reveal()
    assert f"token={KEY.reveal()}" in plan.asked[0]
    assert target.asked == []
    assert KEY.reveal() not in f"{caught.value!r} {caught.value} {asked!r} {asked.shown} {KEY} {KEY!r}"


@pytest.mark.parametrize(
    "body", [b'{"error": "bad key k3y-that-nobody-may-see"}', b'{"message": "x\\u001b[31m\\nred"}', b"\xff\x00"]
)
def test_what_a_service_says_of_an_error_is_cleaned(body: bytes) -> None:
    """It may repeat the key, or hold control characters: neither reaches a terminal or a log."""
    with serving(Plan(status=401, body=lambda _: body)) as url, pytest.raises(StatusError) as caught:
        Web(5).ask(Request(f"{url}/x", secret_headers=(("a", KEY),)))
    assert KEY.reveal() not in str(caught.value)
    assert str(caught.value).isprintable()
    assert "HTTP 401, the key is refused" in str(caught.value)


def test_netrc_does_not_replace_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """requests would send what ~/.netrc has for the host instead of the header that we give it."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    plan = Plan()
    with serving(plan) as url:
        Web(5).ask(Request(f"{url}/x", secret_headers=(("Authorization", Secret("Bearer t")),)))
    assert plan.seen[0]["authorization"] == "Bearer t"


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site behind a proxy sets it as for every other program."""
    proxy = Plan(body=lambda _: b"[1]")
    with serving(proxy) as url:
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("no_proxy", "")
        assert Web(5).ask(Request("http://service.invalid/data")) == b"[1]"
    assert proxy.asked == ["http://service.invalid/data"]


def test_a_proxy_that_is_dead_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not "no connection": whoever reads it must know where to look."""
    with serving(Plan()) as url:
        pass  # its port is free again
    monkeypatch.setenv("http_proxy", url)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(ForecastError, match="the proxy lets nothing through"):
        Web(5).ask(Request("http://service.invalid/data"))


def test_a_host_that_asks_to_wait_is_left_alone_also_by_the_next_refresh(tmp_path: Path) -> None:
    """Retry-After outlives the process, and is over when it is over."""
    store = Store(str(tmp_path))
    plan = Plan(status=429, headers={"Retry-After": "120"})
    with serving(plan) as url:
        first = Web(5)
        with pytest.raises(StatusError, match="HTTP 429, asked too often"):
            first.ask(Request(f"{url}/a"))
        store.keep_later(first.later)
        second = Web(5, store.later(time.time()))
        with pytest.raises(ForecastError, match="asked us to wait, another 2 min"):
            second.ask(Request(f"{url}/b"))
        assert plan.asked == ["/a"]
        plan.status = 200
        assert Web(5, store.later(time.time() + 121)).ask(Request(f"{url}/c")) == b"{}"


def test_a_short_wait_is_sat_out(tmp_path: Path) -> None:
    """Retry-After of nothing: the answer comes in the same refresh."""
    plan = Plan(headers={"Retry-After": "0"})

    def body(_: str) -> bytes:
        plan.status = 503 if len(plan.asked) == 1 else 200
        return b"[2]"

    plan.body = body
    with serving(plan) as url:
        assert Web(5).ask(Request(f"{url}/a")) == b"[2]"
    assert len(plan.asked) == 2


def test_what_is_asked_twice_is_fetched_once() -> None:
    """Twenty zones behind one login log in once."""
    plan = Plan(wait_s=0.05)
    with serving(plan) as url, ThreadPoolExecutor(20) as pool:
        web = Web(5)
        assert set(pool.map(lambda _: web.ask(Request(f"{url}/login")), range(20))) == {b"{}"}
    assert plan.asked == ["/login"]


def test_a_dead_host_costs_its_time_once() -> None:
    """The second zone of the same service is told at once."""
    with serving(Plan(fault="hang")) as url:
        web = Web(5, request_s=0.4, read_s=0.2)
        began = time.monotonic()
        for path in "abcdefgh":
            with pytest.raises(ForecastError, match=r"no answer in the time|no complete answer|has not answered"):
                web.ask(Request(f"{url}/{path}"))
        assert time.monotonic() - began < 2.5  # once, not eight times 0.4 s


def test_bursts_are_limited() -> None:
    """After the first forty, requests to a host go out at six a second."""
    waits: list[float] = []
    with serving(Plan()) as url, ThreadPoolExecutor(20) as pool:
        web = Web(60, pause=waits.append, clock=lambda: 0.0)
        list(pool.map(lambda number: web.ask(Request(f"{url}/{number}")), range(46)))
    assert sorted(waits) == pytest.approx([n / 6 for n in range(1, 7)])


def test_no_answer_fills_the_memory() -> None:
    """An answer without end is cut off, whatever it says of its length."""
    with (
        serving(Plan(fault="endless")) as url,
        pytest.raises(ForecastError, match=f"more than {MAX_BYTES >> 20} MiB|no complete"),
    ):
        Web(10).ask(Request(f"{url}/x"))


def test_a_slow_thread_does_not_hold_up_the_end_of_the_process() -> None:
    """Who waits for a hanging server is a daemon."""
    with serving(Plan(fault="hang")) as url:
        with pytest.raises(ForecastError):
            Web(0.3).ask(Request(f"{url}/x"))
        assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("ask "))


def test_keys_come_from_a_file_of_mode_600_or_the_environment(tmp_path: Path) -> None:
    """A file that others may read is refused: whoever reads it has the key."""
    path = tmp_path / "key"
    path.write_text("  abc\n")
    path.chmod(0o600)
    found = credentials.find("eia", str(path), {})
    assert found is not None
    assert found.reveal() == "abc"
    found = credentials.find("electricitymaps-mix", "", {"SLURM_CARBON_KEY_ELECTRICITYMAPS_MIX": "x"})
    assert found is not None
    assert found.reveal() == "x"
    assert credentials.find("eia", "", {}) is None
    for mode in (0o640, 0o604, 0o620, 0o644):
        path.chmod(mode)
        with pytest.raises(ForecastError, match="others may read it; chmod 600"):
            credentials.find("eia", str(path), {})
    path.chmod(0o600)
    for text in (b"", b"\n\n", b"a\nb", b"\xff", b"x" * 5000):
        path.write_bytes(text)
        with pytest.raises(ForecastError, match="holds no key"):
            credentials.find("eia", str(path), {})
    with pytest.raises(ForecastError, match="No such file"):
        credentials.find("eia", str(tmp_path / "none"), {})
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(ForecastError, match="is no file"):
        credentials.find("eia", str(tmp_path / "fifo"), {})
    for wrong in ("k€y", "a\nb"):
        with pytest.raises(ForecastError, match="SLURM_CARBON_KEY_EIA holds no key"):
            credentials.find("eia", "", {"SLURM_CARBON_KEY_EIA": wrong})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file away")
def test_a_key_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Else a user could make the site's refresh speak with a key of his own."""
    path = tmp_path / "key"
    path.write_text("abc")
    path.chmod(0o600)
    os.chown(path, 12345, -1)
    with pytest.raises(ForecastError, match="belongs to user 12345"):
        credentials.find("eia", str(path), {})


# what a server may say to break or trick us


@pytest.mark.parametrize("location", ["http://[foo", "//k3y-that-nobody-may-see@evil.example/", "", "::::"])
def test_odd_places_to_go_to_are_not_gone_to(location: str) -> None:
    """Nor do they break us, nor does a name and password in them reach a message."""
    with serving(Plan(status=302, headers={"Location": location})) as url, pytest.raises(ForecastError) as caught:
        Web(5).ask(Request(f"{url}/x"))
    assert KEY.reveal() not in str(caught.value)


@pytest.mark.parametrize("said", ["\xb2", "Wed, 21 Oct 99999999999999999999 07:28:00 GMT", "-5", "soon", "9" * 300])
def test_odd_times_to_wait(said: str) -> None:
    """Whatever stands there, the host is left alone for a time that ends."""
    with serving(Plan(status=429, headers={"Retry-After": said})) as url:
        web = Web(5)
        with pytest.raises(StatusError):
            web.ask(Request(f"{url}/x"))
    assert all(at < time.time() + 86401 for at in web.later.values())


@pytest.mark.parametrize("form", ["{0}", "Bearer {0}", "Basic {1}", "?key={2}", "{3} is wrong"])
@pytest.mark.parametrize("key", ["user:p4ss+word/=", "k3y-that-nobody-may-see"])
def test_a_key_is_hidden_however_it_is_repeated(form: str, key: str) -> None:
    """As it is, within a header, in Base64, in an address, and each half of it."""
    from base64 import b64encode
    from urllib.parse import quote

    half = key.rpartition(":")[2]
    echo = form.format(key, b64encode(key.encode()).decode(), quote(key, safe=""), half)
    hidden = Secret(key).hidden_in(echo)
    assert "…" in hidden
    assert not any(part in hidden for part in (key, half, quote(half, safe=""), b64encode(key.encode()).decode()))


@pytest.mark.parametrize("address", ["http://[::1", "http://a..b/x", "http://" + "a" * 70 + ".org/x", "ftp://x/y", "x"])
def test_addresses_that_are_none_are_said(address: str) -> None:
    """Without a traceback of the libraries below."""
    with pytest.raises(ForecastError):
        Web(5).ask(Request(address))


def test_two_refreshes_at_once_forget_nothing(tmp_path: Path) -> None:
    """Who was told to wait is remembered, also if another refresh began before and ends later."""
    store = Store(str(tmp_path))
    store.keep_later({"slow.example": time.time() + 100})
    store.keep_later({"other.example": time.time() + 100})
    store.keep_later({})
    assert set(store.later(time.time())) == {"slow.example", "other.example"}


def test_odd_keys_are_refused_before_they_are_sent(tmp_path: Path) -> None:
    """Too long, of other letters, of two lines; from a pipe: each says where it came from."""
    path = tmp_path / "key"
    path.write_bytes(b"x" * 5000)
    path.chmod(0o600)
    with pytest.raises(ForecastError, match="holds no key"):
        credentials.find("eia", str(path), {})
    for wrong in ("k€y", "a\nb"):
        with pytest.raises(ForecastError, match="SLURM_CARBON_KEY_EIA holds no key"):
            credentials.find("eia", "", {"SLURM_CARBON_KEY_EIA": wrong})
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(ForecastError, match="is no file"):
        credentials.find("eia", str(tmp_path / "fifo"), {})
