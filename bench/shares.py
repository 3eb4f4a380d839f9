"""Which parts of a worker take its time on the processor: `python bench/send.py --profile`."""

import signal
from collections import Counter
from types import FrameType

# The innermost of these functions on the stack counts.
PARTS = {
    "made": "making messages",
    "Supply.lease": "leasing",
    "Sender.write": "handing off and settling",
    "SMTP.poll": "speaking SMTP",
    "SMTP.hand_off": "speaking SMTP",
}
# Seconds on the processor from one look to the next; the kernel may make it a few more.
EACH = 0.001


class Shares:
    """Looks at the main thread's stack again and again while the process works."""

    def __init__(self) -> None:
        self.seen = Counter[str]()

    def begin(self) -> None:
        signal.signal(signal.SIGPROF, self.look)
        signal.setitimer(signal.ITIMER_PROF, EACH, EACH)

    def end(self) -> dict[str, int]:
        """Return how often each part was seen."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        return dict(self.seen)

    def look(self, number: int, frame: FrameType | None) -> None:
        while frame and frame.f_code.co_qualname not in PARTS:
            frame = frame.f_back
        self.seen[PARTS[frame.f_code.co_qualname] if frame else "the rest"] += 1


def told(seen: dict[str, int]) -> str:
    """Say each part's share, the largest first."""
    whole = sum(seen.values())
    parts = sorted(seen.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {count / whole:.0%}" for name, count in parts)
