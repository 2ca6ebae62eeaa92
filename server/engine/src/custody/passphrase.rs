//! Passphrases of key cards: generated, 125 bits, easy to write down and to type.

use zeroize::Zeroizing;

use crate::EngineError;

/// Crockford's base 32: no I, L, O or U, so that nothing looks like something else.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const LETTERS: usize = 25;
const GROUP: usize = 5;

/// A text that is not a card's passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a card's passphrase has 25 letters and digits, in five groups of five")]
pub struct PassphraseError;

/// A card's passphrase: 25 letters of Crockford's base 32. No Debug, no Display; zeroized on drop.
pub struct Passphrase(Zeroizing<String>);

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
        Ok(Self(text))
    }

    /// Reads what a person typed: case, dashes and spaces do not matter, O is 0, I and L are 1.
    ///
    /// # Errors
    /// [`PassphraseError`] when it cannot be a passphrase of ours.
    pub fn parse(typed: &str) -> Result<Self, PassphraseError> {
        let mut text = Zeroizing::new(String::with_capacity(LETTERS));
        for typed in typed.trim().chars().filter(|c| !matches!(c, '-' | ' ')) {
            let letter = match typed.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            let known = u8::try_from(letter).is_ok_and(|byte| ALPHABET.contains(&byte));
            if !known || text.len() == LETTERS {
                return Err(PassphraseError);
            }
            text.push(letter);
        }
        if text.len() == LETTERS { Ok(Self(text)) } else { Err(PassphraseError) }
    }

    /// The form to write down: five groups of five.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(LETTERS + LETTERS / GROUP));
        for (position, letter) in self.0.chars().enumerate() {
            if position > 0 && position % GROUP == 0 {
                text.push('-');
            }
            text.push(letter);
        }
        text
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
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
    fn what_is_too_short_too_long_or_strange_is_refused() {
        let text = Passphrase::generate().expect("random").to_text();
        assert!(Passphrase::parse(&text[1..]).is_err());
        assert!(Passphrase::parse(&format!("{}A", *text)).is_err());
        assert!(Passphrase::parse(&text.replacen('-', "U", 1)).is_err());
        assert!(Passphrase::parse("密码").is_err());
    }
}
