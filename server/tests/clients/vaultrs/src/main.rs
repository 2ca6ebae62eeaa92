//! What a Rust service does with vaultrs, unmodified, against a real server.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustify_derive::Endpoint;
use serde::Deserialize;
use vaultrs::api;
use vaultrs::api::transit::requests::{
    CreateKeyRequest, DataKeyType, DecryptDataRequest, EncryptDataRequest, GenerateDataKeyRequest,
    RewrapDataRequest, UpdateKeyConfigurationRequest,
};
use vaultrs::api::transit::responses::ReadKeyData;
use vaultrs::client::{Client as _, VaultClient, VaultClientSettingsBuilder};
use vaultrs::error::ClientError;
use vaultrs::transit::{data, generate, key};
use vaultrs::{auth::approle, sys, token};

const MOUNT: &str = "transit";
const NAME: &str = "rust-chat";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

fn text(base64: &str) -> String {
    String::from_utf8(STANDARD.decode(base64).expect("base64")).expect("text")
}

fn done(step: &str) {
    println!("ok: {step}");
}

/// The first error of a refusal, which must have this status.
fn refused<T>(status: u16, result: Result<T, ClientError>) -> String {
    match result {
        Err(ClientError::APIError { code, errors }) if code == status => {
            errors.into_iter().next().unwrap_or_default()
        }
        Err(error) => panic!("refused with {error:?}, not with {status}"),
        Ok(_) => panic!("not refused with {status}"),
    }
}

/// vaultrs has no batches of its own, and takes anybody's calls.
#[derive(Debug, Endpoint)]
#[endpoint(path = "transit/encrypt/rust-chat", method = "POST", response = "BatchResponse")]
struct Batch {
    batch_input: Vec<serde_json::Value>,
    partial_failure_response_code: u16,
}

#[derive(Debug, Deserialize)]
struct BatchResponse {
    batch_results: Vec<serde_json::Value>,
}

fn env(name: &str) -> String {
    std::env::var(name).expect(name)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let settings = VaultClientSettingsBuilder::default().address(env("VAULT_ADDR")).build();
    let mut client = VaultClient::new(settings.expect("settings")).expect("a client");
    assert!(!sys::health(&client).await.expect("health").sealed);
    let (role, secret) = (env("VAULT_ROLE_ID"), env("VAULT_SECRET_ID"));
    refused(400, approle::login(&client, "approle", &role, "wrong").await);
    let login = approle::login(&client, "approle", &role, &secret).await.expect("logged in");
    client.set_token(&login.client_token);
    let known = token::lookup_self(&client).await.expect("known");
    assert_eq!(known.id, login.client_token);
    let renewed = token::renew_self(&client, Some("2h")).await.expect("renewed");
    assert_eq!(renewed.client_token, login.client_token);
    done("login");

    let mut wish = CreateKeyRequest::builder();
    key::create(&client, MOUNT, NAME, Some(wish.derived(true))).await.expect("made");
    let made = key::read(&client, MOUNT, NAME).await.expect("read");
    assert!(matches!(&made.keys, ReadKeyData::Symmetric(keys) if keys.len() == 1));
    let names = key::list(&client, MOUNT).await.expect("listed").keys;
    assert!(names.iter().any(|name| name == NAME));
    assert!(sys::mount::list(&client).await.expect("mounts").contains_key("transit/"));
    done("create");

    let (context, message) = (b64("会话 7"), "你好，世界 👋");
    let encrypt =
        async |wish: &mut _| data::encrypt(&client, MOUNT, NAME, &b64(message), Some(wish)).await;
    let sealed = encrypt(EncryptDataRequest::builder().context(&context)).await.expect("sealed");
    assert!(sealed.ciphertext.starts_with("vault:v1:"));
    done("encrypt unicode");

    let decrypt = async |ciphertext: &str, wish: &mut _| {
        data::decrypt(&client, MOUNT, NAME, ciphertext, Some(wish)).await
    };
    let opened = decrypt(&sealed.ciphertext, DecryptDataRequest::builder().context(&context)).await;
    assert_eq!(text(&opened.expect("opened").plaintext), message);
    done("decrypt");

    let other = b64("会话 8");
    refused(400, decrypt(&sealed.ciphertext, DecryptDataRequest::builder().context(&other)).await);
    refused(400, encrypt(&mut EncryptDataRequest::builder()).await);
    done("wrong context");

    let aad = b64("消息 42");
    let mut wish = EncryptDataRequest::builder();
    let bound = encrypt(wish.context(&context).associated_data(&aad)).await;
    let bound = bound.expect("sealed").ciphertext;
    let mut wish = DecryptDataRequest::builder();
    decrypt(&bound, wish.context(&context).associated_data(&aad)).await.expect("opened");
    refused(400, decrypt(&bound, DecryptDataRequest::builder().context(&context)).await);
    done("associated data");

    let item = |plaintext: &str| serde_json::json!({ "plaintext": plaintext, "context": context });
    let batch_input = vec![item(&b64("一")), item("not base64!"), item(&b64("三"))];
    let batch = Batch { batch_input, partial_failure_response_code: 200 };
    let results = api::exec_with_result(&client, batch).await.expect("partly").batch_results;
    let failed: Vec<_> = results.iter().map(|result| result.get("error").is_some()).collect();
    assert_eq!(failed, [false, true, false]);
    done("batch with one bad item");

    key::rotate(&client, MOUNT, NAME).await.expect("rotated");
    let made = key::read(&client, MOUNT, NAME).await.expect("read");
    assert!(matches!(&made.keys, ReadKeyData::Symmetric(keys) if keys.len() == 2));
    done("rotate");

    let mut wish = RewrapDataRequest::builder();
    let again =
        data::rewrap(&client, MOUNT, NAME, &sealed.ciphertext, Some(wish.context(&context))).await;
    let again = again.expect("rewrapped").ciphertext;
    assert!(again.starts_with("vault:v2:"));
    done("rewrap");

    let mut wish = UpdateKeyConfigurationRequest::builder();
    key::update(&client, MOUNT, NAME, Some(wish.min_decryption_version(2_u64))).await.expect("set");
    refused(
        400,
        decrypt(&sealed.ciphertext, DecryptDataRequest::builder().context(&context)).await,
    );
    decrypt(&again, DecryptDataRequest::builder().context(&context)).await.expect("opened");
    done("minimum version");

    let mut wish = GenerateDataKeyRequest::builder();
    let wish = Some(wish.context(&context));
    let made = generate::data_key(&client, MOUNT, NAME, DataKeyType::Plaintext, wish).await;
    let made = made.expect("made");
    let opened = decrypt(&made.ciphertext, DecryptDataRequest::builder().context(&context)).await;
    assert_eq!(Some(opened.expect("opened").plaintext), made.plaintext);
    done("datakey");

    let said = refused(400, key::delete(&client, MOUNT, NAME).await);
    assert!(said.contains("deletion is not allowed"), "{said}");
    let mut wish = UpdateKeyConfigurationRequest::builder();
    key::update(&client, MOUNT, NAME, Some(wish.deletion_allowed(true))).await.expect("set");
    key::trim(&client, MOUNT, NAME, 2).await.expect("trimmed");
    key::delete(&client, MOUNT, NAME).await.expect("deleted");
    refused(404, key::read(&client, MOUNT, NAME).await);
    done("refused delete");

    token::revoke_self(&client).await.expect("revoked");
    refused(403, token::lookup_self(&client).await);
    done("logout");
}
