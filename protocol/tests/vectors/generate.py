#!/usr/bin/env python3
"""Makes the test vectors in this folder, from spec.md alone: nothing of Sealwire's code is used.

    pip install 'cryptography>=44' && python3 generate.py

One file a case. `layer` is the layer that a case is about: a good case passes it, a bad one is refused
by it with the error named in `outcome`, and by none before it:

    frame     length, version, size
    header    request id, flags
    body      the fields of a message
    envelope  the form of an envelope
    auth      transcript and proofs
    aead      the tag
"""
import hashlib, hmac, json, os, struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, ChaCha20Poly1305

HERE = os.path.dirname(os.path.abspath(__file__))
AUTH, ENC, DEC, REENC, GENKEY, KEYINFO, PING, GOAWAY, DATAKEY = range(1, 10)
REQUEST, RESPONSE, FAILURE = 0, 1, 3
MAX_FRAME = 1114112


def u16(n): return struct.pack(">H", n)
def u32(n): return struct.pack(">I", n)
def long(b): return u16(len(b)) + b
def short(b): return bytes([len(b)]) + b


def frame(op, flags, rid, body, version=1, length=None):
    length = 12 + len(body) if length is None else length
    return u32(length) + bytes([version, op]) + u16(flags) + struct.pack(">Q", rid) + body


def seq(start, n): return bytes(range(start, start + n))


def hkdf(key, info, length):
    prk = hmac.new(bytes(32), key, hashlib.sha256).digest()
    out, block, i = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([i]), hashlib.sha256).digest()
        out, i = out + block, i + 1
    return out[:length]


# ---- suites ---------------------------------------------------------------------------------------

def aes_block(key, block):
    e = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return e.update(block) + e.finalize()


def xaes(key, nonce, aad, msg):
    l = int.from_bytes(aes_block(key, bytes(16)), "big")
    k1 = (l << 1) & (2**128 - 1)
    if l >> 127:
        k1 ^= 0x87
    derived = b""
    for counter in (1, 2):
        m = bytes([0, counter]) + b"X\0" + nonce[:12]
        derived += aes_block(key, (int.from_bytes(m, "big") ^ k1).to_bytes(16, "big"))
    return AESGCM(derived).encrypt(nonce[12:], msg, aad)


def hchacha20(key, nonce16):
    state = list(struct.unpack("<4I", b"expand 32-byte k")) + list(struct.unpack("<8I", key)) \
        + list(struct.unpack("<4I", nonce16))
    rot = lambda x, n: ((x << n) | (x >> (32 - n))) & 0xffffffff
    def quarter(a, b, c, d):
        for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] = (state[x] + state[y]) & 0xffffffff
            state[z] = rot(state[z] ^ state[x], n)
    for _ in range(10):
        for q in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                  (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(*q)
    return struct.pack("<8I", *(state[:4] + state[12:]))


def xchacha(key, nonce, aad, msg):
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])).encrypt(bytes(4) + nonce[16:], msg, aad)


def sm4gcm(key, nonce, aad, msg):
    e = Cipher(algorithms.SM4(key), modes.GCM(nonce)).encryptor()
    e.authenticate_additional_data(aad)
    ct = e.update(msg) + e.finalize()
    return ct + e.tag


SUITES = {
    1: ("aes-256-gcm", 32, 12, lambda k, n, a, m: AESGCM(k).encrypt(n, m, a)),
    2: ("xaes-256-gcm", 32, 24, xaes),
    3: ("aes-256-gcm-siv", 32, 12, lambda k, n, a, m: AESGCMSIV(k).encrypt(n, m, a)),
    4: ("chacha20-poly1305", 32, 12, lambda k, n, a, m: ChaCha20Poly1305(k).encrypt(n, m, a)),
    5: ("xchacha20-poly1305", 32, 24, xchacha),
    6: ("sm4-gcm", 16, 12, sm4gcm),
}

# ---- the worked example -----------------------------------------------------------------------------

SECRET, APP_KEY = seq(0x00, 32), b"ak_demo"
CLIENT_NONCE, SERVER_NONCE = seq(0x20, 32), seq(0x40, 32)
LIMITS = u32(MAX_FRAME) + u32(1024) + u32(43200)
BUSINESS_KEY, UID, INDEX, VERSION = seq(0x80, 32), seq(0xa0, 16), 7, 1
NONCE = seq(0xc0, 24)
MESSAGE = "你好 👋".encode()
AAD = b"\x01" + long(b"t1") + long(b"c7") + long(b"42")


def suite_key(suite, version=VERSION):
    length = SUITES[suite][1]
    fields = [b"sealwire suite key v1", bytes([suite]), UID, u32(version), bytes([length])]
    return hkdf(BUSINESS_KEY, b"".join(map(long, fields)), length)


def header(suite, index=INDEX, version=VERSION):
    return bytes([0xf5, suite]) + u32(index) + u32(version)


def envelope(suite, context, aad, msg):
    _, _, nonce_len, seal = SUITES[suite]
    head, nonce = header(suite), NONCE[:nonce_len]
    return head + nonce + seal(suite_key(suite), nonce, head + long(context) + long(aad), msg)


def transcript(channel, binding):
    kind = b"tls-exporter" if channel == b"tls" else b""
    fields = [b"sealwire auth v1", b"\x01", channel, kind, binding, CLIENT_NONCE, SERVER_NONCE,
              APP_KEY, LIMITS]
    return b"".join(map(long, fields))


def proofs(t):
    kc = hkdf(SECRET, b"sealwire auth v1 client key", 32)
    ks = hkdf(SECRET, b"sealwire auth v1 server key", 32)
    client = hmac.new(kc, t, hashlib.sha256).digest()
    return client, hmac.new(ks, t + long(client), hashlib.sha256).digest()


made = set()


def case(name, description, layer, kind, data, outcome="good", **fields):
    record = {"description": description, "layer": layer, "kind": kind, "outcome": outcome,
              "input": data.hex()}
    record.update({k: v.hex() if isinstance(v, bytes) else v for k, v in fields.items()})
    path = os.path.join(HERE, name + ".json")
    assert name not in made, name
    made.add(name)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(record, f, indent=1, ensure_ascii=False)
        f.write("\n")


T = transcript(b"tcp", b"")
CLIENT_PROOF, SERVER_PROOF = proofs(T)
ENVELOPE = envelope(2, b"", AAD, MESSAGE)
BOUND = long(b"") + long(AAD)
DATA_KEY = seq(0x20, 32)
ENC_BODY = u32(INDEX) + b"\0\0" + BOUND + MESSAGE


def good_frames():
    hello = b"\x01" + CLIENT_NONCE + short(APP_KEY)
    for name, op, flags, rid, kind, body in [
        ("auth-hello", AUTH, REQUEST, 1, "auth-request", hello),
        ("auth-challenge", AUTH, RESPONSE, 1, "auth-response", b"\x01" + SERVER_NONCE + LIMITS),
        ("auth-proof", AUTH, REQUEST, 2, "auth-request", b"\x02" + CLIENT_PROOF),
        ("auth-accepted", AUTH, RESPONSE, 2, "auth-response", b"\x02" + SERVER_PROOF),
        ("enc-request", ENC, REQUEST, 3, "enc-request", ENC_BODY),
        ("enc-response", ENC, RESPONSE, 3, "envelope", ENVELOPE),
        ("dec-request", DEC, REQUEST, 4, "dec-request", BOUND + ENVELOPE),
        ("dec-response", DEC, RESPONSE, 4, "opaque", MESSAGE),
        ("reenc-request", REENC, REQUEST, 5, "reenc-request", u32(0) + b"\0\0" + BOUND + ENVELOPE),
        ("reenc-rebind", REENC, REQUEST, 6, "reenc-request",
         u32(9) + b"\x05\x01" + BOUND + long(b"ctx") + long(b"aad") + ENVELOPE),
        ("reenc-response", REENC, RESPONSE, 5, "envelope", ENVELOPE),
        ("genkey-request", GENKEY, REQUEST, 7, "genkey-request",
         u32(0) + short(b"\x02\x01") + short("聊天".encode())),
        ("genkey-response", GENKEY, RESPONSE, 7, "genkey-response", u32(8) + u32(1) + b"\x02\x01"),
        ("keyinfo-request", KEYINFO, REQUEST, 8, "keyinfo-request", short(b"chat")),
        ("keyinfo-response", KEYINFO, RESPONSE, 8, "keyinfo-response",
         u32(7) + u32(1) + short(b"\x02\x01")),
        ("datakey-request", DATAKEY, REQUEST, 10, "datakey-request", u32(INDEX) + b"\0\x20" + BOUND),
        ("datakey-response", DATAKEY, RESPONSE, 10, "datakey-response",
         short(DATA_KEY) + envelope(2, b"", AAD, DATA_KEY)),
        ("ping-request", PING, REQUEST, 9, "ping", b"alive?"),
        ("ping-response", PING, RESPONSE, 9, "ping", b"alive?"),
        ("goaway", GOAWAY, RESPONSE, 0, "goaway", u16(1) + u32(10000)),
        ("failure", DEC, FAILURE, 4, "failure", u16(49) + long(b"")),
        ("failure-detail", ENC, FAILURE, 3, "failure",
         u16(6) + long(b"body ends inside field `aad`")),
    ]:
        case(name, f"a whole frame: {name}", "body", kind, frame(op, flags, rid, body))
    case("enc-empty-message", "a message may be empty", "body", "enc-request",
         frame(ENC, REQUEST, 3, u32(INDEX) + b"\x01\0" + BOUND))
    case("version-answer", "the answer to an unknown version; its layout never changes", "frame",
         "version-answer", bytes.fromhex("00000010000000030000000000000000" "00010101"))


def bad_frames():
    f = lambda name, why, data, outcome: case("bad-frame-" + name, why, "frame", "frame", data, outcome)
    f("too-short", "length 11 leaves no room for the header", u32(11) + bytes(12), "MALFORMED_FRAME")
    f("too-large", "one byte more than agreed", frame(PING, 0, 1, b"", length=MAX_FRAME - 3),
      "FRAME_TOO_LARGE")
    f("huge", "a length of 4 GiB is refused from its four bytes alone", b"\xff\xff\xff\xff",
      "FRAME_TOO_LARGE")
    f("tls", "a TLS record is no frame: its length is far over any limit",
      bytes.fromhex("1603010200010001fc0303"), "FRAME_TOO_LARGE")
    f("version-2", "a version that is not spoken", frame(PING, 0, 1, b"", version=2),
      "UNSUPPORTED_VERSION")
    f("version-0", "version 0 is never spoken by a client", frame(PING, 0, 1, b"", version=0),
      "UNSUPPORTED_VERSION")
    h = lambda name, why, data, outcome: case("bad-header-" + name, why, "header", "request", data, outcome)
    h("id-0", "request id 0 is the server's own", frame(PING, 0, 0, b""), "MALFORMED_FRAME")
    h("response", "a client sends no responses", frame(PING, RESPONSE, 1, b""), "RESERVED_FLAGS")
    h("reserved-flag", "bit 15 is reserved", frame(PING, 0x8000, 1, b""), "RESERVED_FLAGS")
    h("opcode", "opcode 0x7f is not known", frame(0x7f, 0, 1, b""), "UNKNOWN_OPCODE")


def bad_bodies():
    def b(name, why, kind, op, body, outcome="MALFORMED_BODY"):
        case("bad-body-" + name, why, "body", kind, frame(op, REQUEST, 1, body), outcome)
    b("enc-empty", "no field at all", "enc-request", ENC, b"")
    b("enc-key-0", "key index 0 is reserved", "enc-request", ENC, u32(0) + ENC_BODY[4:])
    b("enc-suite", "suite 7 is not known", "enc-request", ENC, u32(7) + b"\x07\0" + BOUND)
    b("enc-reserved", "the reserved byte is not 0", "enc-request", ENC, u32(7) + b"\0\x01" + BOUND)
    b("enc-aad-cut", "the frame ends inside the AAD", "enc-request", ENC,
      u32(7) + b"\0\0" + long(b"") + u16(5) + b"abcd")
    b("enc-aad-long", "an AAD of 4097 bytes", "enc-request", ENC,
      u32(7) + b"\0\0" + long(b"") + long(bytes(4097)))
    b("dec-context-long", "a context of 4097 bytes", "dec-request", DEC, long(bytes(4097)) + long(b""))
    b("reenc-kind", "binding kind 2 does not exist", "reenc-request", REENC, u32(0) + b"\0\x02" + BOUND)
    b("genkey-number", "a name that is a number", "genkey-request", GENKEY, u32(0) + b"\0" + short(b"42"))
    b("genkey-star", "a name with the grants' own sign", "genkey-request", GENKEY,
      u32(0) + b"\0" + short(b"im-*"))
    b("genkey-utf8", "a name that is not UTF-8", "genkey-request", GENKEY, u32(0) + b"\0" + short(b"\xff"))
    b("genkey-twice", "a suite listed twice", "genkey-request", GENKEY,
      u32(0) + short(b"\x02\x02") + short(b"k"))
    b("genkey-trailing", "a byte behind the last field", "genkey-request", GENKEY,
      u32(0) + b"\0" + short(b"k") + b"\0")
    b("datakey-length", "a data key of 33 bytes", "datakey-request", DATAKEY, u32(7) + b"\0\x21" + BOUND)
    b("datakey-key-0", "key index 0 is reserved", "datakey-request", DATAKEY, u32(0) + b"\0\x20" + BOUND)
    b("datakey-trailing", "a byte behind the binding", "datakey-request", DATAKEY,
      u32(7) + b"\0\x20" + BOUND + b"\0")
    b("keyinfo-empty-name", "an empty name", "keyinfo-request", KEYINFO, b"\0")
    b("ping-long", "65 bytes to echo", "ping", PING, bytes(65))
    b("auth-step", "step 3 does not exist", "auth-request", AUTH, b"\x03")
    b("auth-app-key", "an AppKey with a space", "auth-request", AUTH,
      b"\x01" + CLIENT_NONCE + short(b"ak demo"))
    b("auth-trailing", "a byte behind the proof", "auth-request", AUTH, b"\x02" + CLIENT_PROOF + b"\0")


def auth():
    exporter = seq(0x60, 32)
    for name, channel, binding in [("tcp", b"tcp", b""), ("tls", b"tls", exporter)]:
        t = transcript(channel, binding)
        client, server = proofs(t)
        fields = dict(app_secret=SECRET, app_key=APP_KEY.decode(), channel=channel.decode(),
                      channel_binding=binding, client_nonce=CLIENT_NONCE, server_nonce=SERVER_NONCE,
                      limits=LIMITS, client_proof=client, server_proof=server)
        case("transcript-" + name, f"transcript and proofs over {name}", "auth", "transcript", t, **fields)
        case("bad-auth-proof-" + name, "the client's proof with its last bit changed", "auth",
             "transcript", t, "AUTH_FAILED",
             **{**fields, "client_proof": client[:-1] + bytes([client[-1] ^ 1])})
    t = transcript(b"tls", exporter)
    client, server = proofs(transcript(b"tls", bytes(32)))
    case("bad-auth-other-channel", "a proof made on another TLS connection", "auth", "transcript", t,
         "AUTH_FAILED", app_secret=SECRET, app_key=APP_KEY.decode(), channel="tls",
         channel_binding=exporter, client_nonce=CLIENT_NONCE, server_nonce=SERVER_NONCE, limits=LIMITS,
         client_proof=client, server_proof=server)


def envelopes():
    fields = lambda suite, context, aad, msg: dict(
        suite=SUITES[suite][0], business_key=BUSINESS_KEY, uid=UID, key_index=INDEX,
        key_version=VERSION, suite_key=suite_key(suite), context=context, aad=aad, message=msg)
    for suite, (name, _, _, _) in SUITES.items():
        sealed = envelope(suite, b"", AAD, MESSAGE)
        case("open-" + name, f"an envelope of {name}", "aead", "open", sealed,
             **fields(suite, b"", AAD, MESSAGE))
        case("open-context-" + name, f"an empty message with a context, {name}", "aead", "open",
             envelope(suite, b"ctx", b"", b""), **fields(suite, b"ctx", b"", b""))
        case("bad-open-tag-" + name, "the last bit of the tag is changed", "aead", "open",
             sealed[:-1] + bytes([sealed[-1] ^ 1]), "OPEN_FAILED", **fields(suite, b"", AAD, MESSAGE))
    f = lambda name, why, data, context=b"", aad=AAD: case(
        "bad-open-" + name, why, "aead", "open", data, "OPEN_FAILED", **fields(2, context, aad, MESSAGE))
    f("other-aad", "another message id", ENVELOPE, aad=AAD[:-1] + b"3")
    moved = envelope(2, b"ab", b"c", MESSAGE)
    f("moved-boundary", "context and AAD are authenticated each with its length", moved, b"a", b"bc")
    f("ciphertext", "a changed bit of the ciphertext",
      ENVELOPE[:34] + bytes([ENVELOPE[34] ^ 0x80]) + ENVELOPE[35:])
    f("nonce", "a changed bit of the nonce", ENVELOPE[:10] + bytes([ENVELOPE[10] ^ 1]) + ENVELOPE[11:])
    f("suite", "the suite's byte is authenticated, and binds the key",
      ENVELOPE[:1] + b"\x05" + ENVELOPE[2:])
    e = lambda name, why, data: case("bad-envelope-" + name, why, "envelope", "envelope-bytes", data,
                                     "BAD_ENVELOPE")
    e("empty", "no byte at all", b"")
    e("text", "UTF-8 text", MESSAGE)
    e("format", "another format", b"\xf6" + ENVELOPE[1:])
    e("suite-0", "suite 0 is not a suite", b"\xf5\0" + ENVELOPE[2:])
    e("suite-7", "suite 7 is not known", b"\xf5\x07" + ENVELOPE[2:])
    e("key-0", "key index 0 is reserved", header(2, index=0) + ENVELOPE[10:])
    e("version-0", "versions count from 1", header(2, version=0) + ENVELOPE[10:])
    e("no-tag", "one byte short of header, nonce and tag", ENVELOPE[:49])


for make in (good_frames, bad_frames, bad_bodies, auth, envelopes):
    make()
for stale in set(os.listdir(HERE)) - {n + ".json" for n in made} - {"generate.py"}:
    os.remove(os.path.join(HERE, stale))
print(len(made), "vectors")
