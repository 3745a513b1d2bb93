"""A JVM: what it waits for, its own threads aside, and the command that shows a stack."""

from __future__ import annotations

from tests.software.diagnosis import DATABASE, diagnose, give_up, never_stuck, of_rule
from tests.software.stage import Backend, Stage, program

SERVER = """
import java.io.*;
import java.net.*;
import java.util.*;
import java.util.concurrent.*;

class Server {
    static final List<Socket> kept = Collections.synchronizedList(new ArrayList<>());

    public static void main(String[] words) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(3);
        ServerSocket listener = new ServerSocket(8080);
        while (true) {
            Socket client = listener.accept();
            pool.submit(words[0].equals("leak") ? () -> leak(client) : () -> serve(client));
        }
    }

    static void leak(Socket client) {
        try {
            while (client.getInputStream().read() >= 0);
            kept.add(client);
        } catch (IOException error) {
        }
    }

    static void serve(Socket client) {
        try (client; Socket database = new Socket("127.0.0.1", 5432)) {
            client.getInputStream().read(new byte[4096]);
            database.getOutputStream().write("select 1\\r\\n\\r\\n".getBytes());
            database.getInputStream().read();
            client.getOutputStream().write("HTTP/1.0 200 OK\\r\\n\\r\\n".getBytes());
        } catch (IOException error) {
        }
    }
}
"""


def java(stage: Stage, what: str) -> int:
    """Start a server with a pool of three threads on 8080; return its pid."""
    path = program("java", "openjdk-17-jdk-headless")
    return stage.start(path, stage.file("Server.java", SERVER), what, port=8080, seconds=60).pid


def try_a_pool_stuck_in_a_database_call(stage: Stage) -> str:
    Backend(DATABASE, answers=False)
    pid = java(stage, "serve")
    give_up(8080, 10)
    said = of_rule(diagnose(), "close-wait-unread")
    assert said.why == (
        "all 3 workers wait for the upstream 127.0.0.1:5432 (postgres): nobody reads these sockets"
    ), said
    assert said.waits[1].startswith("3 of 4 threads in recv() from 127.0.0.1:5432"), said
    assert said.commands == (f"jcmd {pid} Thread.print", f"kill -QUIT {pid}"), said
    return f"a stuck database: {said.why}; {said.now}"


def try_a_leak(stage: Stage) -> str:
    pid = java(stage, "leak")
    give_up(8080, 10)
    said = of_rule(diagnose(), "close-wait-leak")
    assert said.why == "nobody watches any of 10 sockets: forgotten by the program", said
    assert said.now == f"jcmd {pid} Thread.print", said
    return f"sockets read to the end and kept: {said.why}; {said.now}"


def try_a_busy_pool_is_not_stuck(stage: Stage) -> str:
    Backend(DATABASE, seconds=0.02)
    java(stage, "serve")
    looks = never_stuck(8080, 16)
    return f"a slow database and 16 clients: {looks} looks, none says stuck"
