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

# A byte for the call, with a token or without, then a body.
bodies = [
    '{"plaintext":"YQ==","context":"Yw==","associated_data":"ZA==","key_version":"1","reference":"r"}',
    '{"ciphertext":"vault:v1:9QIAAAAMAAAAA4FVNkwIX7spXTWU1umrT0BoO8qTG1Usa05PkooJmmdESckHF/HhAdpN"}',
    '{"batch_input":[{"plaintext":"YQ==","reference":"1"},{"plaintext":7}],"partial_failure_response_code":200}',
    '{"type":"aes256-gcm96","derived":"true","exportable":false,"auto_rotate_period":"24h"}',
    '{"min_decryption_version":1,"min_encryption_version":0,"deletion_allowed":true}',
    '{"min_available_version":1}', '{"role_id":"ak_fuzz","secret_id":"swh1_x"}', '{"increment":"1h"}', '{"bits":256}',
    "list=true&after=a&limit=5", "standbyok=true&sealedcode=418", "",
]
(here / "corpus/http").mkdir(parents=True, exist_ok=True)
for call in [*range(16), *range(0x40, 0x50)]:
    for at, body in enumerate(bodies):
        (here / f"corpus/http/{call}-{at}").write_bytes(bytes([call]) + body.encode())
(here / "corpus/http/raw").write_bytes(b"\x80GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n\r\nPRI * HTTP/2.0")
(here / "corpus/http/raw-2").write_bytes(b"\x80PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))

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
