#!/usr/bin/env python3
"""Makes the seed corpus of the fuzz targets from the protocol's test vectors."""
import json, os, pathlib

here = pathlib.Path(__file__).parent
vectors = here.parent / "protocol/tests/vectors"
for path in sorted(vectors.glob("*.json")):
    vector = json.loads(path.read_text(encoding="utf-8"))
    data = bytes.fromhex(vector["input"])
    target = {"frame": "frame", "header": "frame", "body": "frame"}.get(vector["layer"], "envelope")
    targets = [target, "session"] if target == "frame" else [target]
    if vector["layer"] == "auth":
        continue
    for target in targets:
        folder = here / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.stem).write_bytes(data)
