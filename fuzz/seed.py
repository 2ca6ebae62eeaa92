#!/usr/bin/env python3
"""Makes the seed corpus of the fuzz targets from the protocol's test vectors."""
import hashlib, json, pathlib

here = pathlib.Path(__file__).parent
vectors = here.parent / "protocol/tests/vectors"

def card():
    """A card whose header is sound; what it seals does not matter here."""
    body = b"SEALCARD" + bytes([1, 2, 3, 1]) + bytes(range(32)) + (65536).to_bytes(4, "big") \
        + (3).to_bytes(4, "big") + bytes([1]) + bytes(16 + 12 + 32 + 16)
    return body + hashlib.sha256(body).digest()


(here / "corpus/card").mkdir(parents=True, exist_ok=True)
(here / "corpus/card/sound").write_bytes(card())
(here / "corpus/card/uri").write_bytes(
    b"pkcs11:token=card%201;object=root?module-path=/lib/p.so&pin-source=file:/run/pin")
(here / "corpus/card/passphrase").write_bytes(b"01234-56789-ABCDE-FGHJK-MNPQR")

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
