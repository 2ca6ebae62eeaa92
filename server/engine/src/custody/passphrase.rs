//! Passphrases of key cards: generated, 125 bits, easy to write down and to type.

use zeroize::Zeroizing;

use crate::EngineError;

/// Crockford's base 32: no I, L, O or U, so that nothing looks like something else.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const LETTERS: usize = 25;
const GROUP: usize = 5;

/// Lengths of a PIN of one's own.
const OWN: std::ops::RangeInclusive<usize> = 6..=64;

/// A text that opens no card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a card's passphrase has 25 letters and digits, in five groups of five; a PIN of one's own has 6 to \
     64 printable ASCII characters"
)]
pub struct PassphraseError;

/// A card's passphrase: 25 letters of Crockford's base 32 that were generated, or a PIN of one's own. No
/// Debug, no Display; zeroized on drop.
pub struct Passphrase {
    text: Zeroizing<String>,
    generated: bool,
}

impl Passphrase {
    /// A fresh passphrase.
    ///
    /// # Errors
    /// [`EngineError::Random`].
    pub fn generate() -> Result<Self, EngineError> {
        let mut random = Zeroizing::new([0; LETTERS]);
        getrandom::fill(random.as_mut_slice())?;
        let mut text = Zeroizing::new(String::with_capacity(LETTERS));
        for byte in random.iter() {
            text.push(char::from(ALPHABET[usize::from(byte % 32)]));
        }
        Ok(Self { text, generated: true })
    }

    /// Reads what a person typed. What can be a generated passphrase is one: case, dashes and spaces do
    /// not matter, O is 0, I and L are 1. Anything else is a PIN of one's own, to the letter, without
    /// the white space around it.
    ///
    /// # Errors
    /// [`PassphraseError`] when it can be neither.
    pub fn parse(typed: &str) -> Result<Self, PassphraseError> {
        if let Some(text) = as_generated(typed) {
            return Ok(Self { text, generated: true });
        }
        let typed = typed.trim();
        let printable = typed.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !printable || !OWN.contains(&typed.len()) {
            return Err(PassphraseError);
        }
        Ok(Self { text: Zeroizing::new(typed.to_owned()), generated: false })
    }

    /// Whether it was generated, or might have been.
    #[must_use]
    pub fn is_generated(&self) -> bool {
        self.generated
    }

    /// The form to write down: five groups of five; a PIN of one's own as it is.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let length = self.text.len();
        let mut text = Zeroizing::new(String::with_capacity(length + length / GROUP));
        for (position, letter) in self.text.chars().enumerate() {
            if self.generated && position > 0 && position.is_multiple_of(GROUP) {
                text.push('-');
            }
            text.push(letter);
        }
        text
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// The 25 letters of a generated passphrase, as they are meant.
fn as_generated(typed: &str) -> Option<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(LETTERS));
    for typed in typed.trim().chars().filter(|c| !matches!(c, '-' | ' ')) {
        let letter = match typed.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        let known = u8::try_from(letter).is_ok_and(|byte| ALPHABET.contains(&byte));
        if !known || text.len() == LETTERS {
            return None;
        }
        text.push(letter);
    }
    (text.len() == LETTERS).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_survives_a_careless_hand() {
        let passphrase = Passphrase::generate().expect("random");
        let text = passphrase.to_text();
        assert_eq!(text.len(), 29);
        let careless = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        let read = Passphrase::parse(&careless).expect("parses");
        assert_eq!(read.bytes(), passphrase.bytes());
    }

    #[test]
    fn what_is_no_passphrase_is_a_pin_or_refused() {
        let text = Passphrase::generate().expect("random").to_text();
        let generated = |typed: &str| Passphrase::parse(typed).map(|pin| pin.is_generated());
        assert_eq!(generated(&text), Ok(true));
        assert_eq!(generated(&text[1..]), Ok(false));
        assert_eq!(generated(&format!("{}A", *text)), Ok(false));
        assert_eq!(generated(&text.replacen('-', "U", 1)), Ok(false));
        for typed in ["密码密码密码", "12345", "", "a\tb\tc\td", &"9".repeat(65)] {
            assert_eq!(generated(typed), Err(PassphraseError), "{typed}");
        }
        let own = Passphrase::parse(" Tr0ub4dor-3 \n").expect("a PIN");
        assert_eq!((own.bytes(), own.to_text().as_str()), (&b"Tr0ub4dor-3"[..], "Tr0ub4dor-3"));
    }
}
