"""Node.js: one thread runs the program, and what it does when sockets stay."""

from __future__ import annotations

from pathlib import Path

from tests.software.diagnosis import Said, diagnose, give_up, never_stuck, of_rule
from tests.software.stage import Backend, Stage, program

SERVER = """
const http = require('http'), net = require('net'), child = require('child_process');
const kept = [];

function leak(socket) {
  kept.push(socket);
  socket.on('data', () => {});
}

function serve(request, response) {
  if (process.argv[2] === 'spin') for (;;);
  if (process.argv[2] === 'wait') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  if (process.argv[2] === 'exec') child.execSync('sleep 60');
  http.get('http://127.0.0.1:9001/', answer => answer.pipe(response));
}

if (process.argv[2] === 'spawn') child.spawn('sleep', ['60']);
if (['leak', 'spawn'].includes(process.argv[2]))
  net.createServer({allowHalfOpen: true}, leak).listen(8080);
else http.createServer(serve).listen(8080);
"""


def node(stage: Stage, *words: str) -> int:
    """Start a server on 8080; return its pid."""
    return stage.start(
        program("node", "nodejs"), stage.file("server.js", SERVER), *words, port=8080
    ).pid


def _inspected(said: Said, pid: int) -> bool:
    return said.now == f"kill -USR1 {pid} && node inspect -p {pid}"


def try_a_leak(stage: Stage) -> str:
    pid = node(stage, "leak")
    give_up(8080, 10)
    said = of_rule(diagnose(), "close-wait-leak")
    assert said.why == "nobody watches any of 10 sockets: forgotten by the program", said
    assert _inspected(said, pid), said
    return f"allowHalfOpen without end(): {said.why}; {said.now}"


def _blocked(stage: Stage, how: str) -> Said:
    pid = node(stage, how)
    give_up(8080, 10)
    said = of_rule(diagnose(), "close-wait-never-accepted")
    assert _inspected(said, pid), said
    return said


def try_a_loop_that_never_ends(stage: Stage) -> str:
    said = _blocked(stage, "spin")
    expected = "the only worker runs on a CPU all the time: nobody calls accept()"
    assert said.why == expected, said
    return f"for (;;) in a handler: {said.why}"


def try_a_handler_that_blocks(stage: Stage) -> str:
    said = _blocked(stage, "wait")
    expected = "the only worker waits for a lock or for work: nobody calls accept()"
    assert said.why == expected, said
    return f"Atomics.wait() in a handler: {said.why}"


def try_a_handler_that_runs_a_program(stage: Stage) -> str:
    node(stage, "exec")
    give_up(8080, 10)
    said = of_rule(diagnose(), "close-wait-never-accepted")
    begins, ends = "the only worker waits for its child process, pid ", ": nobody calls accept()"
    assert said.why.startswith(begins), said
    assert said.why.endswith(ends), said
    assert said.now.startswith("ps -o "), said
    assert Path(f"/proc/{said.now.split()[-1]}/comm").read_text() in ("sleep\n", "sh\n")
    return f"execSync() in a handler: {said.why}"


def try_a_program_that_runs_beside_is_not_waited_for(stage: Stage) -> str:
    node(stage, "spawn")
    give_up(8080, 10)
    said = of_rule(diagnose(), "close-wait-leak")
    assert said.why == "nobody watches any of 10 sockets: forgotten by the program", said
    return f"spawn() and a leak: {said.why}"


def try_a_busy_loop_is_not_stuck(stage: Stage) -> str:
    Backend(9001, seconds=0.02)
    node(stage, "serve")
    looks = never_stuck(8080, 16)
    return f"a slow upstream and 16 clients: {looks} looks, none says stuck"
