"""Tokens, sessions, login codes, and slowing guessing down."""

import stat
from pathlib import Path

import pytest
from sqlalchemy import func, select

from center import auth
from center.auth import Throttle
from center.tables import tokens
from tests.parts.centers import SQLITE_ONLY, Rig, SimulatedClock


def test_a_token_opens_until_it_expires(center: Rig) -> None:
    """A secret is found by itself only, for its kind only, and only while it lasts."""
    now_ms = center.clock.now_ms()
    with center.database.transaction() as connection:
        forever = auth.issue(connection, "api", "me", now_ms)
        brief = auth.issue(connection, "api", "you", now_ms, 10)
        assert auth.bearer_of(connection, f"Bearer {forever}", now_ms)
        assert auth.find(connection, "api", brief, now_ms + 9_999)
        assert auth.find(connection, "api", brief, now_ms + 10_000) is None
        assert auth.find(connection, "session", forever, now_ms) is None
        for wrong in (None, "", "Bearer", "Bearer x", f"Basic {forever}", forever):
            assert auth.bearer_of(connection, wrong, now_ms) is None


@SQLITE_ONLY
def test_no_secret_is_kept(center: Rig) -> None:
    """I11: the database holds no secret."""
    with center.database.transaction() as connection:
        secret = auth.issue(connection, "api", "me", center.clock.now_ms())
    with center.database.reading() as connection:
        assert secret not in str(connection.execute(select(tokens)).all())
    held = b"".join(path.read_bytes() for path in center.folder.glob("center.db*"))
    assert secret.encode() not in held
    assert len(secret) > 40


def test_login_and_logout(center: Rig) -> None:
    """A token or a code opens a session of 12 hours; logout ends it; a code works once."""
    now_ms = center.clock.now_ms()
    with center.database.transaction() as connection:
        token = auth.issue(connection, "api", "me", now_ms)
        code = auth.login_code(connection, "browser", now_ms)
        by_token = auth.login(connection, token, now_ms)
        by_code = auth.login(connection, code, now_ms)
        assert by_token
        assert by_code
        assert auth.login(connection, code, now_ms) is None
        session = auth.session_of(connection, by_code, now_ms)
        assert session is not None
        assert (session.name, session.role) == ("browser", "admin")
        assert auth.session_of(connection, by_code, now_ms + 12 * 3600 * 1000) is None
        auth.logout(connection, by_code)
        assert auth.session_of(connection, by_code, now_ms) is None
        assert auth.session_of(connection, by_token, now_ms)
        assert auth.session_of(connection, None, now_ms) is None
        assert auth.bearer_of(connection, f"Bearer {by_token}", now_ms) is None


@SQLITE_ONLY
def test_a_code_ends_after_five_minutes(center: Rig) -> None:
    """A code that nobody used is worth nothing later."""
    now_ms = center.clock.now_ms()
    with center.database.transaction() as connection:
        code = auth.login_code(connection, "browser", now_ms)
        assert auth.login(connection, code, now_ms + 300_000) is None


def test_expired_secrets_are_swept_out(center: Rig) -> None:
    """I8: codes and sessions do not pile up."""
    with center.database.transaction() as connection:
        for number in range(20):
            auth.login_code(connection, "browser", number * 300_000)
        assert connection.execute(select(func.count()).select_from(tokens)).scalar() == 1


def test_a_secret_overwrites_nothing(tmp_path: Path) -> None:
    """The token's file is new and private."""
    path = tmp_path / "token"
    auth.write_secret(path, "secret")
    assert path.read_text() == "secret\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        auth.write_secret(path, "other")


def test_guessing_is_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten failures make an address wait; others do not; what is remembered is bounded."""
    clock = SimulatedClock()
    throttle = Throttle(clock)
    for _ in range(Throttle.MAX_FAILURES):
        assert throttle.must_wait_s("a") == 0
        throttle.failed("a")
    assert throttle.must_wait_s("a") == 300
    assert throttle.must_wait_s("b") == 0
    clock.pass_s(299)
    assert throttle.must_wait_s("a") == 1
    clock.pass_s(2)
    assert throttle.must_wait_s("a") == 0
    throttle.failed("a")
    assert throttle.must_wait_s("a") == 0
    monkeypatch.setattr(Throttle, "MAX_ADDRESSES", 2)
    for _ in range(Throttle.MAX_FAILURES):
        throttle.failed("a")
    throttle.failed("c")
    throttle.failed("d")
    assert throttle.must_wait_s("a") == 0
