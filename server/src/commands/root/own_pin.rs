//! A PIN of one's own for a card in a file, with a word on what it is worth.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use sealwire_engine::custody::{Passphrase, Place};
use zeroize::Zeroizing;

use super::cards::{ask, read_pin};

/// Guesses a second of a machine with eight data-centre GPUs at such a card: each guess moves about 2 GiB
/// through memory (Argon2id with 256 MiB and four passes), of which such a machine moves some 16 TiB a
/// second.
const GUESSES_PER_SECOND: f64 = 8_000.0;

/// Reads a PIN, or asks for it twice, and says how long it would stand.
pub(super) fn own_pin(place: &Place, pin_file: Option<&PathBuf>) -> Result<Zeroizing<String>> {
    let typed = match pin_file {
        Some(file) => read_pin(file)?,
        None => {
            let typed = ask(&format!("new PIN of the card in {place}: "))?;
            ensure!(*typed == *ask("once more: ")?, "the two PINs differ: begin again");
            typed
        }
    };
    let pin = Passphrase::parse(&typed).with_context(|| format!("card {place}"))?;
    if !pin.is_generated() {
        eprintln!(
            "sealwire: card {place}: WEAK: whoever gets hold of the card finds this PIN within {}, as far as \
             can be estimated, on one machine with eight GPUs",
            duration(hours(&typed))
        );
    }
    Ok(typed)
}

/// Hours that somebody needs who tries likely PINs first: words, names, dates, patterns of the keyboard.
fn hours(pin: &str) -> f64 {
    let guesses = zxcvbn::zxcvbn(pin.trim(), &[]).guesses_log10();
    10_f64.powf(guesses) / GUESSES_PER_SECOND / 3600.0
}

fn duration(hours: f64) -> String {
    match hours {
        hours if hours < 0.1 => "minutes".to_owned(),
        hours if hours < 1000.0 => format!("{hours:.1} hours"),
        hours if hours < 1e9 => format!("{hours:.0} hours"),
        _ => "more than a hundred thousand years".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_choose_stands_for_minutes_and_what_is_random_for_years() {
        for pin in ["314159", "password1", "hello-world", "19870412"] {
            assert!(hours(pin) < 24.0, "{pin}: {}", hours(pin));
        }
        assert!(hours("k7#Qz!9vR2xm") > 10_000.0);
        assert_eq!(duration(hours("123456")), "minutes");
    }
}
