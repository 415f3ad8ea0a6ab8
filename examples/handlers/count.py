"""Counts events by container and kind, and prints the counts when its input ends."""

import collections
import json
import sys

counts = collections.Counter()
for line in sys.stdin:
    event = json.loads(line)
    container = (event.get("container") or {}).get("name") or "-"
    counts[container, event["kind"]] += 1

for (container, kind), count in counts.most_common():
    print(json.dumps({"container": container, "kind": kind, "count": count}))
