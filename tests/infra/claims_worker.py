"""A process that claims, effects and settles, and dies or stops where it is told: run by test_claims.

usage: claims_worker.py KAFKA PREFIX EFFECTS [POINT [KILL|STOP]]

The consumer group is named like the file EFFECTS. An effect is a line in it, written at once: the range's
name and its offsets.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from tidegate.topics import PRODUCERS
from tidegate_infra.kafka.claims import ClaimLost, RangeConsumer
from tidegate_infra.settings import Settings


def main() -> None:
    kafka, prefix, effects, *rest = sys.argv[1:]
    point, action = (*rest, "", "")[:2]
    settings = Settings(kafka=kafka, topic_prefix=prefix, kafka_session_ms=2_000)
    consumer = RangeConsumer(
        settings,
        Path(effects).name,
        [PRODUCERS],
        max_rows=40,
        max_bytes=1 << 20,
        max_ms=100,
        start=lambda log: log.low,
    )
    file = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    seen = 0

    def reach(name: str) -> None:
        nonlocal seen
        if name == point and (seen := seen + 1) == 3:
            os.kill(os.getpid(), signal.SIGKILL if action == "KILL" else signal.SIGSTOP)

    print("up", flush=True)
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 1.5 or not consumer.positions():
        try:
            ranges = consumer.poll(0.1)
            if not ranges:
                if consumer.ends([PRODUCERS]) != consumer.positions():
                    quiet_since = time.monotonic()
                continue
            consumer.claim(ranges)
            reach("after_claim")
            for range_ in ranges:
                line = {"name": range_.name, "offsets": [message.offset() for message in range_.messages]}
                os.write(file, (json.dumps(line) + "\n").encode())
                reach("in_effect")
            reach("after_effect")
            consumer.settle(ranges)
            reach("after_settle")
            # Not before: a slow machine may take longer for these steps than silence lasts.
            quiet_since = time.monotonic()
        except ClaimLost as lost:
            quiet_since = time.monotonic()
            print(f"lost {lost}", flush=True)
    consumer.close()


if __name__ == "__main__":
    main()
