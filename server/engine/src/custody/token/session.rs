//! One login on a token: PKCS#11 2.40, through `cryptoki`.

use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::UserType;
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::{Token, TokenError, Typed};
use crate::Secret;

/// Marks our objects among others on a token.
const APPLICATION: &[u8] = b"sealwire";

/// A library is initialised once in a process, so one piece of work at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Whether the work writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Read,
    Write,
}

/// A login on a token.
pub(super) struct Session<'a> {
    token: &'a Token,
    inner: cryptoki::session::Session,
}

/// Loads the token's library, logs in, does the work, and unloads the library.
pub(super) fn with<T>(
    token: &Token,
    mode: Mode,
    work: impl FnOnce(&Session<'_>) -> Result<T, TokenError>,
) -> Result<T, TokenError> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let module = |error: Error| TokenError::Module {
        path: token.module.clone(),
        problem: error.to_string(),
    };
    let library = Pkcs11::new(&token.module).map_err(module)?;
    library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).map_err(module)?;
    let done = login(token, &library, mode).and_then(|inner| {
        let session = Session { token, inner };
        let done = work(&session);
        let _ = session.inner.logout();
        done
    });
    if let Err(error) = library.finalize() {
        tracing::warn!(%error, library = %token.module.display(), "ending PKCS#11");
    }
    done
}

fn login(
    token: &Token,
    library: &Pkcs11,
    mode: Mode,
) -> Result<cryptoki::session::Session, TokenError> {
    let name = || token.uri.to_string();
    let (slot, info) = find(token, library)?;
    if info.user_pin_locked() {
        return Err(TokenError::Locked(name()));
    }
    if info.user_pin_final_try() && token.typed == Typed::FromFile {
        return Err(TokenError::LastTry(name()));
    }
    let session = match mode {
        Mode::Read => library.open_ro_session(slot),
        Mode::Write => library.open_rw_session(slot),
    };
    let session = session.map_err(|error| failed(token, "opening a session", &error))?;
    let pin = AuthPin::new(token.pin.as_str().into());
    match session.login(UserType::User, Some(&pin)) {
        Ok(()) => Ok(session),
        Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(TokenError::Locked(name())),
        Err(Error::Pkcs11(
            RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid,
            _,
        )) => Err(TokenError::WrongPin { uri: name(), left: left(library, slot) }),
        Err(error) => Err(failed(token, "logging in", &error)),
    }
}

/// What the token says of the tries that are left, after a wrong one.
fn left(library: &Pkcs11, slot: Slot) -> &'static str {
    match library.get_token_info(slot) {
        Ok(info) if info.user_pin_locked() => "; the token has locked itself now",
        Ok(info) if info.user_pin_final_try() => "; one more wrong PIN locks the token",
        Ok(info) if info.user_pin_count_low() => "; after a few more the token locks itself",
        _ => "",
    }
}

/// Finds the token by what its URI says: the number of a slot changes.
fn find(token: &Token, library: &Pkcs11) -> Result<(Slot, TokenInfo), TokenError> {
    let uri = &token.uri;
    let slots = library.get_slots_with_token();
    let slots = slots.map_err(|error| failed(token, "looking for tokens", &error))?;
    let fits = |wanted: &Option<String>, found: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted == found.trim_end())
    };
    let mut found = slots.into_iter().filter_map(|slot| {
        let info = library.get_token_info(slot).ok()?;
        let fits = info.token_initialized()
            && fits(&uri.token, info.label())
            && fits(&uri.serial, info.serial_number())
            && fits(&uri.manufacturer, info.manufacturer_id())
            && fits(&uri.model, info.model());
        fits.then_some((slot, info))
    });
    let first = found.next().ok_or_else(|| TokenError::Absent(uri.to_string()))?;
    match found.next() {
        None => Ok(first),
        Some(_) => Err(TokenError::Ambiguous(uri.to_string())),
    }
}

impl Session<'_> {
    pub(super) fn has_card(&self) -> Result<bool, TokenError> {
        Ok(self.card()?.is_some())
    }

    pub(super) fn read_card(&self) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let missing =
            || TokenError::NoObject { uri: self.token.uri.to_string(), what: "Sealwire card" };
        let card = self.card()?.ok_or_else(missing)?;
        let attributes = self.inner.get_attributes(card, &[AttributeType::Value]);
        let attributes = attributes.map_err(|error| self.failed("reading the card", &error))?;
        let value = attributes.into_iter().find_map(|attribute| match attribute {
            Attribute::Value(value) => Some(Zeroizing::new(value)),
            _ => None,
        });
        value.ok_or_else(missing)
    }

    pub(super) fn write_card(&self, bytes: &[u8]) -> Result<(), TokenError> {
        if self.has_card()? {
            return Err(TokenError::Exists(self.token.uri.to_string()));
        }
        let mut template = self.card_template();
        template.extend([Attribute::Modifiable(false), Attribute::Value(bytes.to_vec())]);
        let made = self.inner.create_object(&template);
        made.map(drop).map_err(|error| self.failed("writing the card", &error))
    }

    pub(super) fn remove_card(&self) -> Result<(), TokenError> {
        match self.card()? {
            Some(card) => {
                let removed = self.inner.destroy_object(card);
                removed.map_err(|error| self.failed("removing the card", &error))
            }
            None => Ok(()),
        }
    }

    fn card(&self) -> Result<Option<ObjectHandle>, TokenError> {
        let found = self.inner.find_objects(&self.card_template());
        let found = found.map_err(|error| self.failed("looking for the card", &error))?;
        match found.as_slice() {
            [] => Ok(None),
            [card] => Ok(Some(*card)),
            _ => Err(TokenError::Ambiguous(self.token.uri.to_string())),
        }
    }

    fn card_template(&self) -> Vec<Attribute> {
        vec![
            Attribute::Class(ObjectClass::DATA),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Application(APPLICATION.to_vec()),
            Attribute::Label(self.token.card_label().as_bytes().to_vec()),
        ]
    }

    pub(super) fn wrap(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        secret: &Secret<32>,
    ) -> Result<[u8; 48], TokenError> {
        let key = match self.chip_key()? {
            Some(key) => key,
            None => self.make_chip_key()?,
        };
        let mut nonce = *nonce;
        let parameters = gcm(&mut nonce, aad, |error| self.failed("AES-GCM", error))?;
        let sealed = self.inner.encrypt(&Mechanism::AesGcm(parameters), key, secret.expose());
        let sealed =
            sealed.map_err(|error| self.failed("encrypting with the chip's key", &error))?;
        sealed.try_into().map_err(|_| self.odd("encrypting with the chip's key"))
    }

    pub(super) fn unwrap(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        wrapped: &[u8; 48],
    ) -> Result<Secret<32>, TokenError> {
        let doing = "decrypting with the chip's key: it is another key, or root.sealed was changed";
        let missing =
            || TokenError::NoObject { uri: self.token.uri.to_string(), what: "key of this chip" };
        let key = self.chip_key()?.ok_or_else(missing)?;
        let mut nonce = *nonce;
        let parameters = gcm(&mut nonce, aad, |error| self.failed("AES-GCM", error))?;
        let opened = self.inner.decrypt(&Mechanism::AesGcm(parameters), key, wrapped);
        let opened = Zeroizing::new(opened.map_err(|error| self.failed(doing, &error))?);
        Secret::copy_from(&opened).ok_or_else(|| self.odd(doing))
    }

    /// The chip's key, when it is there and cannot leave the token.
    fn chip_key(&self) -> Result<Option<ObjectHandle>, TokenError> {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(cryptoki::object::KeyType::AES),
            Attribute::Label(self.token.chip_label().as_bytes().to_vec()),
        ];
        let found = self.inner.find_objects(&template);
        let found = found.map_err(|error| self.failed("looking for the chip's key", &error))?;
        let key = match found.as_slice() {
            [] => return Ok(None),
            [key] => *key,
            _ => return Err(TokenError::Ambiguous(self.token.uri.to_string())),
        };
        // Also in the past: a key that was made outside could lie anywhere.
        let asked = [AttributeType::NeverExtractable, AttributeType::AlwaysSensitive];
        let attributes = self.inner.get_attributes(key, &asked);
        let attributes = attributes.map_err(|error| self.failed("looking at the key", &error))?;
        let safe = [Attribute::NeverExtractable(true), Attribute::AlwaysSensitive(true)];
        if safe.iter().all(|attribute| attributes.contains(attribute)) {
            Ok(Some(key))
        } else {
            Err(TokenError::Extractable(self.token.uri.to_string()))
        }
    }

    fn make_chip_key(&self) -> Result<ObjectHandle, TokenError> {
        let template = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Modifiable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            Attribute::Sign(false),
            Attribute::Verify(false),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::ValueLen(32.into()),
            Attribute::Label(self.token.chip_label().as_bytes().to_vec()),
        ];
        let made = self.inner.generate_key(&Mechanism::AesKeyGen, &template);
        made.map_err(|error| self.failed("making the chip's key", &error))
    }

    fn failed(&self, doing: &'static str, error: &Error) -> TokenError {
        failed(self.token, doing, error)
    }

    fn odd(&self, doing: &'static str) -> TokenError {
        let problem = "the answer has another length than it must".to_owned();
        TokenError::Other { uri: self.token.uri.to_string(), doing, problem }
    }
}

fn gcm<'a>(
    nonce: &'a mut [u8; 12],
    aad: &'a [u8],
    failed: impl FnOnce(&Error) -> TokenError,
) -> Result<GcmParams<'a>, TokenError> {
    GcmParams::new(nonce, aad, 128.into()).map_err(|error| failed(&error))
}

/// The token's answer by its name: the library's text is a paragraph.
fn failed(token: &Token, doing: &'static str, error: &Error) -> TokenError {
    let problem = match error {
        Error::Pkcs11(code, function) => format!("{code:?} from {function:?}"),
        other => other.to_string(),
    };
    TokenError::Other { uri: token.uri.to_string(), doing, problem }
}
