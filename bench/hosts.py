"""Send from two hosts while one is cut off: `python bench/hosts.py [--readers N] [--json FILE]`. As root, on Linux.

Each host is a network namespace: two with workers, one with PostgreSQL, one with the broker, one with the mail server.
One worker host loses its cable to one of these in the middle of a day, and gets it back later; the day must end without
its help, and then with it.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import ground, servers
from bench.crew import Crew
from bench.drill import CONNECTIONS, Count
from bench.drilled import Ours
from bench.table import heading

SERVICES = ("database", "broker", "mail")
HOSTS = ("one", "two")
WORKERS = 1  # of each host
MOST = CONNECTIONS * WORKERS


class Network:
    """Namespaces with a cable from each worker host to each service. Nothing of the machine's own is touched."""

    def __init__(self) -> None:
        self.mark = f"funnel{os.getpid()}"

    def name(self, host: str) -> str:
        return f"{self.mark}-{host}"

    def inside(self, host: str) -> tuple[str, ...]:
        # Each with a host's name of its own, in a namespace that ends with it
        named = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name(host))
        return ("ip", "netns", "exec", self.name(host), *named)

    def address(self, service: str) -> str:
        return f"10.77.{SERVICES.index(service)}.1"

    @contextmanager
    def laid(self) -> "Iterator[Network]":
        try:
            for host in (*SERVICES, *HOSTS):
                ip("netns", "add", self.name(host))
                ip("-n", self.name(host), "link", "set", "lo", "up")
            for service in SERVICES:
                self.lay(service)
            yield self
        finally:
            for host in (*SERVICES, *HOSTS):
                subprocess.run(["ip", "netns", "del", self.name(host)], check=False, stderr=subprocess.DEVNULL)

    def lay(self, service: str) -> None:
        """A switch at the service, and a cable to it from each worker host."""
        there = self.name(service)
        ip("-n", there, "link", "add", "switch", "type", "bridge")
        ip("-n", there, "addr", "add", f"{self.address(service)}/24", "dev", "switch")
        ip("-n", there, "link", "set", "switch", "up")
        for number, host in enumerate(HOSTS, 11):
            here = self.name(host)
            ip("-n", there, "link", "add", host, "type", "veth", "peer", "name", service, "netns", here)
            ip("-n", there, "link", "set", host, "master", "switch", "up")
            ip("-n", here, "addr", "add", f"10.77.{SERVICES.index(service)}.{number}/24", "dev", service)
            ip("-n", here, "link", "set", service, "up")

    def cut(self, service: str, host: str) -> None:
        ip("-n", self.name(service), "link", "set", host, "down")

    def mend(self, service: str, host: str) -> None:
        ip("-n", self.name(service), "link", "set", host, "up")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Hosts(Ours):
    """The same day as in the drill on one machine, with the workers on two hosts."""

    def __init__(self, readers: int, seed: int, folder: Path, network: Network) -> None:
        super().__init__(readers, seed, folder, CONNECTIONS)
        self.network = network
        self.crews: dict[str, Crew] = {}

    @contextmanager
    def grounds(self) -> Iterator[None]:
        with ExitStack() as stack:
            place = self.folder / self.kind
            place.mkdir()
            place.chmod(0o755)
            self.record, net = place / "record", self.network
            data, mail = net.address("database"), net.address("mail")
            self.postgresql = ground.postgresql(place, data, as_nobody(net.inside("database")))
            self.redis = ground.redis(place, net.address("broker"), net.inside("broker"))
            self.sink = ground.smtp_sink(self.record, mail, net.inside("mail"))
            slow = ground.slow(self.sink.port, 4, place, mail, net.inside("mail"))
            stack.enter_context(self.postgresql.running(signal.SIGQUIT))
            for server in (self.redis, self.sink, slow):
                stack.enter_context(server.running())
            # The drill itself stands outside: it asks through sockets in the file system.
            self.broker_url = f"redis+socket://{place}/redis.sock"
            database = f"{self.postgresql.port}/postgres"
            self.database_url = f"postgres://postgres@%2F{str(place / 'data')[1:].replace('/', '%2F')}:{database}"
            assert ground.until((place / "data" / f".s.PGSQL.{self.postgresql.port}").exists)
            self.environment = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
            self.environment |= {
                "DATABASE_URL": f"postgres://postgres@{data}:{database}",
                "REDIS_URL": f"redis://{net.address('broker')}:{self.redis.port}/0",
                "MAIL_URL": f"smtp://{mail}:{slow.port}?connections={CONNECTIONS}",
                "DATA_DIR": str(place / "var"),
            }
            self.prepare()
            for host in HOSTS:
                crew = Crew("ours", place / f"{host}.log", self.environment, net.inside(host))
                self.crews[host] = crew
                stack.callback(crew.end)
                for _ in range(WORKERS):
                    crew.start()
            self.crew = self.crews["one"]
            self.keep_pace_beside(stack)
            yield

    def of(self, host: str) -> tuple[int, int]:
        """Return how many rows a host's workers hold, before and after their hand-off."""
        rows = self.query(
            """SELECT state, count(*) FROM newsletters_delivery JOIN drill_holder USING (owner)
            WHERE name = ANY(%s) AND state IN ('leased', 'handoff') GROUP BY 1""",
            list(self.crews[host].pids),
        )
        states = dict(rows)
        return states.get("leased", 0), states.get("handoff", 0)

    def cut_off(self, service: str) -> dict[str, int]:
        """Cut host "one" off in the middle of a day; let its leases run out, and the day end; mend, and look again."""
        self.count = Count(self.kind, self.readers)
        self.next_day()
        self.let_pass(self.readers / 8)
        # So much that it cannot be done with before the cable is out.
        landed = ground.until(lambda: self.of("one")[0] >= 2 * MOST, 20, 0.001)
        self.network.cut(service, "one")
        cut_at = time.monotonic()
        time.sleep(1)
        stuck = sum(self.of("one"))
        left, moved_at = self.open(), cut_at
        while left and time.monotonic() - moved_at < 30:
            if service != "broker":
                # Five minutes pass for a lease, eleven for a hand-off.
                self.held(*self.crews["one"].pids)
            time.sleep(0.5)
            if (now := self.open()) != left:
                left, moved_at = now, time.monotonic()
        still = sum(self.of("one"))
        self.network.mend(service, "one")
        # TCP waits at most as long again before it tries once more.
        time.sleep(time.monotonic() - cut_at + 1)
        self.finish()
        self.close()
        told = {"landed": int(landed), "held": stuck, "taken_over": stuck - still, "left": left}
        told |= {"doubled": self.count.doubled, "lost": self.count.lost, "uncertain": self.count.uncertain}
        doubled, lost = self.count.after
        return told | {"settled_doubled": doubled, "settled_lost": lost, "settled_uncertain": self.count.still}


def as_nobody(before: tuple[str, ...]) -> tuple[str, ...]:
    return (
        (*before, "setpriv", f"--reuid={ground.USER}", f"--regid={ground.USER}", "--clear-groups")
        if ground.USER
        else before
    )


def able() -> str:
    """Return why this cannot run here, or nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "no ip: apt-get install iproute2"
    tried = subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True)
    return "" if tried.returncode == 0 else "this kernel gives no network namespaces"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readers", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    if why := able():
        sys.exit(why)
    # Whatever ends this, the namespaces go.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    print(heading("two worker hosts, one host each for PostgreSQL, broker and mail"), flush=True)
    with servers.place() as folder, Network().laid() as network:
        drill = Hosts(wanted.readers, wanted.seed, folder, network)
        with drill.grounds():
            found = {service: drill.cut_off(service) for service in SERVICES}
    sys.exit(report(found, wanted))


def report(found: dict[str, dict[str, int]], wanted: argparse.Namespace) -> int:
    columns = ("held", "taken_over", "doubled", "lost", "uncertain")
    print(f"{'cut off from':<14}" + "".join(f"{name.replace('_', ' '):>14}" for name in columns))
    for service, told in found.items():
        print(f"{service:<14}" + "".join(f"{told[name]:>14}" for name in columns))
    print(f"uncertain at most {MOST} for each cut: one email on each connection of the host that is cut off")
    total = sum(map(Counter, found.values()), Counter[str]())
    doubled, lost, still = (total[f"settled_{name}"] for name in ("doubled", "lost", "uncertain"))
    print(f"after settling by the record: {doubled} doubled, {lost} lost, {still} uncertain")
    if wanted.json:
        lines = (
            {"case": f"ours cut off from {name}", "readers": wanted.readers} | told for name, told in found.items()
        )
        wanted.json.write_text("".join(json.dumps(line) + "\n" for line in lines))
    wrong = [f"WRONG: {service}: {why}" for service, told in found.items() for why in faults(service, told)]
    print("\n".join(wrong) or "0 doubled, 0 silently lost.")
    return 1 if wrong else 0


def faults(service: str, told: dict[str, int]) -> list[str]:
    """Return what is wrong with a cut."""
    none = ("left", "doubled", "lost", "settled_doubled", "settled_lost", "settled_uncertain")
    wrong = [f"{told[name]} {name.replace('_', ' ')}" for name in none if told[name]]
    wrong += ["it came while the host held nothing"] * (not told["landed"])
    # Who has lost the broker alone may finish what it holds.
    wrong += ["nothing was taken over"] * (service != "broker" and told["taken_over"] <= 0)
    wrong += [f"{told['uncertain']} uncertain, more than {MOST}"] * (told["uncertain"] > MOST)
    return wrong


if __name__ == "__main__":
    main()
