"""Routes of login codes."""

from fastapi import APIRouter

from center import auth
from center.api.doors import Caller
from center.api.shapes import LoginCode
from center.desk import AtDesk

router = APIRouter(tags=["logins"])


@router.post("/login-codes")
def make_login_code(desk: AtDesk, caller: Caller) -> LoginCode:
    """A code with which a browser logs in once: /login?code=..."""
    with desk.database.transaction() as connection:
        code = auth.login_code(connection, caller.name, desk.clock.now_ms())
    return LoginCode(code=code, expires_in_s=auth.CODE_S)
