"""Servers that can be killed and started again where they stood, and a mail server's own record of what it took."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from funnel.children import die_with_parent
from tests.daemons import NOBODY, free_port, postgresql_programs, redis_program, wait_for

POSTFIX = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/lib/postfix", "/usr/lib/postfix/sbin"])
USER = NOBODY if os.geteuid() == 0 else None
SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "jit": "off",
    # What is stopped in its sleep must not hold what others wait for.
    "deadlock_timeout": "200ms",
}


class Server:
    """A server's process, and how to have it again after it died."""

    def __init__(
        self, command: list[str | Path], port: int, log: Path, user: int | None = None, here: bool = True
    ) -> None:
        self.command, self.port, self.log, self.user, self.here = command, port, log, user, here
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                user=self.user,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        if self.here:
            wait_for(self.port, self.process, self.log)

    def end(self, number: int = signal.SIGKILL) -> None:
        if self.process:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    @contextmanager
    def running(self, last: int = signal.SIGKILL) -> "Iterator[Server]":
        self.start()
        try:
            yield self
        finally:
            self.end(last)


def made(folder: Path) -> Path:
    """Make a folder that the servers' user may write."""
    folder.mkdir(parents=True, exist_ok=True)
    if USER:
        os.chown(folder, USER, -1)
    return folder


def postgresql(folder: Path, address: str = "127.0.0.1", before: tuple[str, ...] = ()) -> Server:
    """Prepare a PostgreSQL as durable as in real life; SIGQUIT is what `pg_ctl -m immediate stop` sends it."""
    programs, data, port = postgresql_programs(folder), made(folder / "data"), free_port()
    initdb: list[str | Path] = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N"]
    initdb += ["-E", "UTF8", "--locale=C"]
    subprocess.run(initdb, user=USER, cwd=data, check=True, stdout=subprocess.DEVNULL)
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 10.0.0.0/8 trust\n")
    server: list[str | Path] = [*before, programs / "postgres", "-D", data, "-p", str(port)]
    for name, value in SETTINGS.items() | {("listen_addresses", address), ("unix_socket_directories", str(data))}:
        server += ["-c", f"{name}={value}"]
    return Server(server, port, folder / "postgresql.log", None if before else USER, not before)


def redis(folder: Path, address: str = "127.0.0.1", before: tuple[str, ...] = ()) -> Server:
    port = free_port()
    command: list[str | Path] = [*before, redis_program(), "--port", str(port), "--bind", address, "--save", ""]
    command += ["--dir", folder, "--protected-mode", "no", "--unixsocket", str(folder / "redis.sock")]
    return Server(command, port, folder / "redis.log", here=not before)


def smtp_sink(record: Path, address: str = "127.0.0.1", before: tuple[str, ...] = ()) -> Server:
    """Prepare Postfix's smtp-sink, which writes each message it takes into a file of `record`."""
    program, port = shutil.which("smtp-sink", path=POSTFIX), free_port()
    if program is None:
        sys.exit("smtp-sink is missing. Install it: apt-get install --no-install-recommends postfix.")
    made(record)
    user = ["-u", "nobody"] if USER else []
    command: list[str | Path] = [
        *before,
        program,
        *user,
        "-m",
        "2000",
        "-d",
        f"{record}/m.",
        f"{address}:{port}",
        "1000",
    ]
    return Server(command, port, record.parent / "smtp-sink.log", here=not before)


def slow(
    port: int, milliseconds: float, folder: Path, address: str = "127.0.0.1", before: tuple[str, ...] = ()
) -> Server:
    """Prepare a relay of bytes before a mail server: whatever the server says comes so much later."""
    mine = free_port()
    command: list[str | Path] = [*before, sys.executable, __file__, str(mine), str(port), str(milliseconds), address]
    return Server(command, mine, folder / "slow.log", here=not before)


@cache
def untraceable() -> str:
    """Return why no process's system calls can be refused here, or nothing."""
    if shutil.which("strace") is None:
        return "no strace: apt-get install strace"
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        command = ["timeout", "0.2", "strace", "-qq", "-o", "/dev/null", "-p", str(sleeper.pid)]
        tried = subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
        return "" if tried.returncode == 124 else "this user may not watch other processes (ptrace)"
    finally:
        sleeper.kill()
        sleeper.wait()


@contextmanager
def refused(call: str, pids: list[int]) -> Iterator[None]:
    """Let the kernel refuse a system call of these processes, as a disk without room or with a fault does."""
    command = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error=EIO"]
    tracer = subprocess.Popen(
        [*command, *(f"--attach={pid}" for pid in pids)], stderr=subprocess.DEVNULL, preexec_fn=die_with_parent
    )
    try:
        yield
    finally:
        tracer.terminate()
        tracer.wait(10)


def until(question: Callable[[], object], seconds: float = 30, pause: float = 0.005) -> bool:
    """Ask until the answer is true; return False where it never is."""
    deadline = time.monotonic() + seconds
    while not question():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


# The mail server's record


class Taken(NamedTuple):
    """One message that the mail server took."""

    recipient: str
    subject: str
    message_id: str


RECIPIENT = re.compile(rb"^X-Rcpt-Args: <([^>]*)>", re.MULTILINE)
SUBJECT = re.compile(rb"^Subject: (.*)$", re.MULTILINE)
MESSAGE_ID = re.compile(rb"^Message-ID: (.*)$", re.MULTILINE | re.IGNORECASE)


def read(record: Path) -> Counter[Taken]:
    """Count what the mail server took, and forget these files. A file that lacks the blank line at its end has not seen
    the final dot: the server or the sender died before, or the dot may still come."""
    taken = Counter[Taken]()
    for file in list(record.iterdir()):
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            # It hears only now that the sender hung up, and has taken its file back.
            continue
        if data.endswith((b"--\n\n", b"Fin.\n\n")):
            found = [pattern.search(data) for pattern in (RECIPIENT, SUBJECT, MESSAGE_ID)]
            taken[Taken(*[match[1].decode().strip() if match else "" for match in found])] += 1
            file.unlink(missing_ok=True)
    return taken


# The slow relay


async def relay(mine: int, theirs: int, seconds: float, address: str) -> None:
    async def meet(client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        try:
            server, commands = await asyncio.open_connection(address, theirs)
        except OSError:
            answers.transport.abort()
            return
        await asyncio.gather(there(client, commands), back(server, answers, seconds))

    listener = await asyncio.start_server(meet, address, mine, backlog=500)
    await listener.serve_forever()


async def there(client: asyncio.StreamReader, commands: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await client.read(65_536):
            commands.write(data)
            await commands.drain()
    commands.close()


async def back(server: asyncio.StreamReader, answers: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while data := await server.read(65_536):
            loop.call_later(seconds, answers.write, data)
    loop.call_later(seconds + 0.001, answers.close)


if __name__ == "__main__":
    asyncio.run(relay(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000, sys.argv[4]))
