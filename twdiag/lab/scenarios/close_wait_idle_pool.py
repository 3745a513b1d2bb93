"""A client whose pooled connections the server has closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import Program, close, converse, listen, meet
from twdiag.lab.scenario import Expected, Scenario
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


# The records that end a TLS connection: 5 bytes of header and the encrypted alert.
TLS_1_3_CLOSE_NOTIFY = b"\x17\x03\x03\x00\x13" + bytes(19)
TLS_1_2_CLOSE_NOTIFY = b"\x15\x03\x03\x00\x1a" + bytes(26)


def build(stage: Stage) -> None:
    """Let the server close five idle connections of a client's pool."""
    address = stage.peer()
    server, client = Program(stage, "server", peer=True), Program(stage, "pool")
    server.do(listen, address)
    meet(client, server, 5, address)
    converse(client, server)
    server.do(close, 3)
    server.do(close, 1, last_words=TLS_1_3_CLOSE_NOTIFY)
    server.do(close, 1, last_words=TLS_1_2_CLOSE_NOTIFY)
    stage.wait_for({State.CLOSE_WAIT: 5})


SCENARIO = Scenario(
    name="close-wait-idle-pool",
    summary="a server closed 5 idle connections that a client keeps in its pool",
    teaches=(
        "A pool does not read from a connection that it does not use, so the server's FIN stays "
        "unread: Recv-Q 1, or 25 and 32 where a TLS alert of 24 or 31 bytes came before it.  The "
        "client notices on its next use.  This is bounded by the size of the pool and no leak; an "
        "idle timeout of the pool that is shorter than the server's ends it."
    ),
    build=build,
    expects=(Expected("close-wait-idle-pool", "notice", {"close_wait": 5}),),
    settle=12.0,
)
