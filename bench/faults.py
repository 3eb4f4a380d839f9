"""Send under fire: `python bench/faults.py [--readers N] [--kills N] [--seed S] [--json FILE]`.

Four workers with four connections each send one day after another through a mail server that takes 4 ms to answer,
while they are killed, their broker is emptied, their database stops at once and their mail server dies. Then each
reader's copies are counted in what Postfix's smtp-sink wrote down. The two other cases are ways to send that are found
everywhere: they mark a row after its message has left, or queue a Celery task for each message.
"""

import argparse
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import servers
from bench.drill import CONNECTIONS, WORKERS, Count
from bench.drilled import KINDS
from bench.table import heading


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readers", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=1_000, help="how many must land")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="of each worker")
    parser.add_argument("--random", action="store_true", help="kill at random only, never aimed")
    parser.add_argument("--cases", default="ours,mark,task", help="which senders; default: %(default)s")
    parser.add_argument("--baseline-kills", type=int, help="for the two baselines; default: a tenth")
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    print(heading(f"{WORKERS} workers with {wanted.connections} connections each"), flush=True)
    with servers.place() as folder:
        counts = [one(kind, wanted, folder) for kind in wanted.cases.split(",")]
    if wanted.json:
        wanted.json.write_text("".join(json.dumps(line(count)) + "\n" for count in counts))
    sys.exit(verdict(counts, wanted))


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


def show(count: Count) -> None:
    print(f"\n{NAMES[count.case]}: {count.days} days of {count.readers:,} readers in {count.seconds:.0f} s")
    for name, times in sorted(count.landed.items()):
        print(f"  {name.replace('_', ' '):<28}{times:>8,}")
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


NAMES = {"ours": "Ours", "mark": "Baseline: mark after send", "task": "Baseline: one Celery task per message"}


def line(count: Count) -> dict[str, object]:
    case = {"ours": "ours faults", "mark": "mark after send", "task": "task per message"}[count.case]
    told = {"case": case, "readers": count.readers, "days": count.days, "accepted": count.accepted}
    return told | {
        "doubled": count.doubled,
        "lost": count.lost,
        "uncertain": count.uncertain,
        "settled_doubled": count.after[0],
        "settled_lost": count.after[1],
        "settled_uncertain": count.still,
        "landed": dict(count.landed),
    }


def verdict(counts: list[Count], wanted: argparse.Namespace) -> int:
    """Return 1 unless ours lost and doubled nothing, and left no more in doubt than what was on its connections."""
    wrong = []
    for count in counts:
        missed = {*KINDS[count.case].FAULTS, "kill"} - {name for name, times in count.landed.items() if times}
        wrong += [f"{count.case}: {name} never landed" for name in sorted(missed)]
        if count.case != "ours":
            continue
        wrong += [f"{count.doubled} doubled"] * bool(count.doubled) + [f"{count.lost} lost"] * bool(count.lost)
        wrong += [f"after settling: {count.after}"] * (count.after != (0, 0))
        wrong += [f"after settling: {count.still} still uncertain"] * bool(count.still)
        wrong += [f"{count.uncertain} uncertain, more than {count.bound}"] * (count.uncertain > count.bound)
        kills = count.landed["kill"] + count.landed["kill_after_hand_off"]
        if kills < wanted.kills:
            wrong.append(f"ended early: {kills} of {wanted.kills} kills")
        if 5 * count.landed["killed in doubt"] < kills:
            wrong.append("fewer than a fifth of the kills came between hand-off and settling")
        if wanted.random and count.uncertain * 50 > count.days * count.readers:
            wrong.append("more than 2% are uncertain")
    for one in wrong:
        print(f"WRONG: {one}")
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
