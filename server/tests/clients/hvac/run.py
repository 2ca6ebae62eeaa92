"""What a Python service does with hvac, unmodified, against a real server."""

import base64
import os

import hvac
from hvac import exceptions


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def refused(kind, call):
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"not refused with {kind}")


def done(step):
    print("ok:", step, flush=True)


client = hvac.Client(url=os.environ["VAULT_ADDR"])
assert client.sys.is_initialized() and not client.sys.is_sealed()
assert client.sys.read_health_status(method="GET")["sealed"] is False
refused(
    exceptions.InvalidRequest,
    lambda: client.auth.approle.login(role_id=os.environ["VAULT_ROLE_ID"], secret_id="wrong"),
)
login = client.auth.approle.login(
    role_id=os.environ["VAULT_ROLE_ID"], secret_id=os.environ["VAULT_SECRET_ID"]
)
assert client.token == login["auth"]["client_token"] and client.is_authenticated()
assert client.auth.token.renew_self(increment="2h")["auth"]["client_token"] == client.token
done("login")

transit = client.secrets.transit
transit.create_key(name="py-消息", derived=True)
created = transit.read_key(name="py-消息")["data"]
assert created["latest_version"] == 1 and created["type"] == "aes256-gcm96" and created["derived"]
assert "py-消息" in transit.list_keys()["data"]["keys"]
assert "transit/" in client.sys.list_mounted_secrets_engines()["data"]
done("create")

context, message = b64("会话 7"), "你好，世界 👋"
sealed = transit.encrypt_data(name="py-消息", plaintext=b64(message), context=context)
ciphertext = sealed["data"]["ciphertext"]
assert ciphertext.startswith("vault:v1:")
done("encrypt unicode")

opened = transit.decrypt_data(name="py-消息", ciphertext=ciphertext, context=context)
assert base64.b64decode(opened["data"]["plaintext"]).decode() == message
done("decrypt")

refused(
    exceptions.InvalidRequest,
    lambda: transit.decrypt_data(name="py-消息", ciphertext=ciphertext, context=b64("会话 8")),
)
refused(
    exceptions.InvalidRequest, lambda: transit.encrypt_data(name="py-消息", plaintext=b64(message))
)
done("wrong context")

aad = dict(context=context, associated_data=b64("消息 42"))
bound = transit.encrypt_data(name="py-消息", plaintext=b64(message), **aad)["data"]["ciphertext"]
assert transit.decrypt_data(name="py-消息", ciphertext=bound, **aad)
refused(
    exceptions.InvalidRequest,
    lambda: transit.decrypt_data(name="py-消息", ciphertext=bound, context=context),
)
done("associated data")

batch = [
    {"plaintext": b64("一"), "context": context},
    {"plaintext": "not base64!", "context": context},
    {"plaintext": b64("三"), "context": context},
]
try:
    transit.encrypt_data(name="py-消息", plaintext=None, batch_input=batch)
    raise AssertionError("an item is wrong")
except exceptions.InvalidRequest as error:
    results = error.json["data"]["batch_results"]
assert [("error" in result) for result in results] == [False, True, False]
items = [{"ciphertext": results[at]["ciphertext"], "context": context} for at in (0, 2)]
opened = transit.decrypt_data(name="py-消息", ciphertext=None, batch_input=items)
texts = [base64.b64decode(r["plaintext"]).decode() for r in opened["data"]["batch_results"]]
assert texts == ["一", "三"]
done("batch with one bad item")

transit.rotate_key(name="py-消息")
assert transit.read_key(name="py-消息")["data"]["latest_version"] == 2
done("rotate")

again = transit.rewrap_data(name="py-消息", ciphertext=ciphertext, context=context)
assert again["data"]["ciphertext"].startswith("vault:v2:")
done("rewrap")

transit.update_key_configuration(name="py-消息", min_decryption_version=2)
refused(
    exceptions.InvalidRequest,
    lambda: transit.decrypt_data(name="py-消息", ciphertext=ciphertext, context=context),
)
assert transit.decrypt_data(
    name="py-消息", ciphertext=again["data"]["ciphertext"], context=context
)
done("minimum version")

key = transit.generate_data_key(name="py-消息", key_type="plaintext", bits=256, context=context)
opened = transit.decrypt_data(
    name="py-消息", ciphertext=key["data"]["ciphertext"], context=context
)
assert opened["data"]["plaintext"] == key["data"]["plaintext"]
wrapped = transit.generate_data_key(name="py-消息", key_type="wrapped", context=context)
assert "plaintext" not in wrapped["data"]
done("datakey")

said = refused(exceptions.InvalidRequest, lambda: transit.delete_key(name="py-消息"))
assert "deletion is not allowed" in said
transit.update_key_configuration(name="py-消息", deletion_allowed=True)
transit.trim_key(name="py-消息", min_version=2)
transit.delete_key(name="py-消息")
refused(exceptions.InvalidPath, lambda: transit.read_key(name="py-消息"))
refused(
    exceptions.InvalidRequest,
    lambda: transit.decrypt_data(
        name="py-消息", ciphertext=again["data"]["ciphertext"], context=context
    ),
)
done("refused delete")

refused(exceptions.InvalidRequest, lambda: client.secrets.transit.sign_data("py", b64("x")))
client.logout(revoke_token=True)
assert not client.is_authenticated()
done("logout")
