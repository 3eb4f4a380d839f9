"""Send under fire: `python bench/faults.py [--readers N] [--kills N | --each N] [--seed S] [--json FILE]`.

Four workers with four connections each send one day after another through a mail server that takes 4 ms to answer,
while they are killed, their broker is emptied, their database stops at once and their mail server dies. Then each
reader's copies are counted in what Postfix's smtp-sink wrote down. The two other cases are ways to send that are found
everywhere: they mark a row after its message has left, or queue a Celery task for each message. With --each, every kind
of fault has days of its own, and its own line of figures.
"""

import argparse
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import servers
from bench.drill import CONNECTIONS, WORKERS, Count
from bench.drilled import KINDS, Ours
from bench.table import heading

# In docs/operating.md, “What stands for each fault”
ROWS = {
    "kill": "K1", "kill_after_hand_off": "K2", "kill_all": "K3", "stop_past_its_lease": "K4", "ask_to_stop": "K5",
    "flush_Redis": "R1", "replay_Redis": "R3", "stop_PostgreSQL": "P1", "end_sessions": "P4",
    "kill_mail_server": "S1, S2", "refuse_fsync": "D2",
}  # fmt: skip
NAMES = {"ours": "Ours", "mark": "Baseline: mark after send", "task": "Baseline: one Celery task per message"}
CASES = {"ours": "ours faults", "mark": "mark after send", "task": "task per message"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readers", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=1_000, help="how many must land")
    parser.add_argument("--each", type=int, metavar="N", help="instead, ours alone: each kind of fault N times")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="of each worker")
    parser.add_argument("--random", action="store_true", help="kill at random only, never aimed")
    parser.add_argument("--cases", default="ours,mark,task", help="which senders; default: %(default)s")
    parser.add_argument("--baseline-kills", type=int, help="for the two baselines; default: a tenth")
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    print(heading(f"{WORKERS} workers with {wanted.connections} connections each"), flush=True)
    for name, why in Ours.NOT_POSSIBLE.items():
        print(f"not possible here: {spoken(name)} ({ROWS[name]}), {why}", flush=True)
    with servers.place() as folder:
        counts = each(wanted, folder) if wanted.each else mixed(wanted, folder)
    if wanted.json:
        wanted.json.write_text("".join(json.dumps(line(count)) + "\n" for count in counts))
    sys.exit(verdict(counts, wanted))


def mixed(wanted: argparse.Namespace, folder: Path) -> list[Count]:
    return [one(kind, wanted, folder) for kind in wanted.cases.split(",")]


def one(kind: str, wanted: argparse.Namespace, folder: Path) -> Count:
    drill = KINDS[kind](wanted.readers, wanted.seed, folder, wanted.connections)
    kills = wanted.kills if kind == "ours" else wanted.baseline_kills or max(wanted.kills // 10, 5)
    with drill.grounds():
        count = drill.run(schedule(kind, kills, wanted))
    show(count)
    return count


def schedule(kind: str, kills: int, wanted: argparse.Namespace) -> list[str]:
    """Return what is to happen, in its order: the last first."""
    aimed = 0 if wanted.random or kind != "ours" else kills // 2
    faults = ["kill"] * (kills - aimed) + ["kill_after_hand_off"] * aimed
    for name, share in KINDS[kind].FAULTS.items():
        faults += [name] * max(1, round(kills * share / 100))
    random.Random(wanted.seed).shuffle(faults)
    return faults


def each(wanted: argparse.Namespace, folder: Path) -> list[Count]:
    """Let one kind of fault after another land, on days of its own."""
    drill, counts = Ours(wanted.readers, wanted.seed, folder, wanted.connections), []
    with drill.grounds():
        for name in [name for name in ROWS if name not in Ours.NOT_POSSIBLE]:
            drill.count = Count("ours", wanted.readers, fault=name)
            counts.append(drill.run([name] * wanted.each))
    print("| fault | row | landed | sent | doubled | silently lost | uncertain | settled: doubled, lost, uncertain |")
    print("|---|---|---|---|---|---|---|---|")
    for count in counts:
        cells = [spoken(count.fault), ROWS[count.fault], count.landed[count.fault], f"{count.sent:,}"]
        cells += [count.doubled, count.lost, count.uncertain, f"{count.after[0]}, {count.after[1]}, {count.still}"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return counts


def spoken(name: str) -> str:
    return name.replace("_", " ")


def show(count: Count) -> None:
    print(f"\n{NAMES[count.case]}: {count.days} days of {count.readers:,} readers in {count.seconds:.0f} s")
    for name, times in sorted(count.landed.items()):
        print(f"  {spoken(name):<28}{times:>8,}  {ROWS.get(name, '')}".rstrip())
    print(f"  {'accepted by the mail server':<28}{count.accepted:>8,}")
    print(f"  {'sent':<28}{count.sent:>8,}")
    print(f"  {'doubled':<28}{count.doubled:>8,}")
    print(f"  {'silently lost':<28}{count.lost:>8,}")
    if count.case == "ours":
        share = count.uncertain / (count.days * count.readers)
        print(f"  {'uncertain':<28}{count.uncertain:>8,}  ({count.delivered:,} of them delivered; {share:.2%})")
        print(f"  {'uncertain at most':<28}{count.bound:>8,}  (connections x faults that left doubt)")
        doubled, lost = count.after
        print(f"  after settling by the record: {doubled} doubled, {lost} lost, {count.still} uncertain")
    print(flush=True)


def line(count: Count) -> dict[str, object]:
    case = f"ours {spoken(count.fault)}" if count.fault else CASES[count.case]
    told = {"case": case, "readers": count.readers, "days": count.days, "accepted": count.accepted}
    return told | {
        "sent": count.sent,
        "doubled": count.doubled,
        "lost": count.lost,
        "uncertain": count.uncertain,
        "settled_doubled": count.after[0],
        "settled_lost": count.after[1],
        "settled_uncertain": count.still,
        "landed": dict(count.landed),
        "not_possible": KINDS[count.case].NOT_POSSIBLE,
    }


def verdict(counts: list[Count], wanted: argparse.Namespace) -> int:
    """Return 1 unless all faults landed, and ours withstood them."""
    wrong = []
    for count in counts:
        of = spoken(count.fault) or count.case
        what = early(count, wanted.each) if count.fault else unfought(count, wanted)
        wrong += [f"{of}: {why}" for why in [*what, *(harm(count) if count.case == "ours" else [])]]
    for why in wrong:
        print(f"WRONG: {why}")
    return 1 if wrong else 0


def harm(count: Count) -> list[str]:
    """Ours may lose and double nothing, and leave no more in doubt than was on its connections."""
    wrong = [f"{count.doubled} doubled"] * bool(count.doubled) + [f"{count.lost} lost"] * bool(count.lost)
    wrong += [f"after settling: {count.after}"] * (count.after != (0, 0))
    wrong += [f"after settling: {count.still} still uncertain"] * bool(count.still)
    return wrong + [f"{count.uncertain} uncertain, more than {count.bound}"] * (count.uncertain > count.bound)


def early(count: Count, times: int) -> list[str]:
    landed = count.landed[count.fault]
    return [f"landed {landed} of {times} times"] * (landed < times)


def unfought(count: Count, wanted: argparse.Namespace) -> list[str]:
    """Return what a run of all faults lacks to prove anything."""
    missed = {*KINDS[count.case].FAULTS, "kill"} - {name for name, times in count.landed.items() if times}
    wrong = [f"{name} never landed" for name in sorted(missed)]
    if count.case != "ours":
        return wrong
    kills = count.landed["kill"] + count.landed["kill_after_hand_off"]
    if kills < wanted.kills:
        wrong.append(f"ended early: {kills} of {wanted.kills} kills")
    if 5 * count.landed["killed in doubt"] < kills:
        wrong.append("fewer than a fifth of the kills came between hand-off and settling")
    if wanted.random and count.uncertain * 50 > count.days * count.readers:
        wrong.append("more than 2% are uncertain")
    return wrong


if __name__ == "__main__":
    main()
