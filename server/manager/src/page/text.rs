//! Times, durations and numbers, as people read them.

use std::time::{Duration, UNIX_EPOCH};

use sealwire_engine::document::{AppState, OperatorRole, OperatorState, VersionState};

use super::visit::Frame;
use super::words::Language;
use crate::RotationStage;
use crate::overview::Seal;

/// Puts values in the places of a text: `{}`, one after another, or `{0}`, `{1}` where languages order them otherwise.
fn fill(text: &str, values: &[String]) -> String {
    let mut text = text.to_owned();
    for (place, value) in values.iter().enumerate() {
        let numbered = format!("{{{place}}}");
        text = match text.contains(&numbered) {
            true => text.replace(&numbered, value),
            false => text.replacen("{}", value, 1),
        };
    }
    text
}

impl Frame {
    /// A text with a value in it.
    pub(super) fn say(&self, text: &str, value: impl ToString) -> String {
        fill(text, &[value.to_string()])
    }

    /// A text with two values in it.
    pub(super) fn say2(&self, text: &str, one: impl ToString, two: impl ToString) -> String {
        fill(text, &[one.to_string(), two.to_string()])
    }

    /// A text with three values in it.
    pub(super) fn say3(
        &self,
        text: &str,
        one: impl ToString,
        two: impl ToString,
        three: impl ToString,
    ) -> String {
        fill(text, &[one.to_string(), two.to_string(), three.to_string()])
    }

    /// A time for programs (RFC 3339), of Unix time in seconds.
    pub(super) fn iso(&self, seconds: &u64) -> String {
        // The last time that four digits give a year to.
        const LAST: u64 = 253_402_300_799;
        let time = UNIX_EPOCH + Duration::from_secs((*seconds).min(LAST));
        humantime::format_rfc3339_seconds(time).to_string()
    }

    /// A time for people, UTC: the script shows it as the browser's clock does.
    pub(super) fn utc(&self, seconds: &u64) -> String {
        let iso = self.iso(seconds);
        format!("{} UTC", iso[..16.min(iso.len())].replace('T', " "))
    }

    /// Seconds, of milliseconds.
    pub(super) fn seconds(&self, milliseconds: &i64) -> u64 {
        u64::try_from(milliseconds / 1000).unwrap_or(0)
    }

    /// A duration in its largest unit that gives a whole number.
    pub(super) fn duration(&self, seconds: &u64) -> String {
        let units = [
            (86_400, "day", "天"),
            (3600, "hour", "小时"),
            (60, "minute", "分钟"),
            (1, "second", "秒"),
        ];
        let unit = units.iter().find(|(length, ..)| *seconds >= *length && seconds % length == 0);
        let (length, english, chinese) = unit.unwrap_or(&units[3]);
        let count = seconds / length;
        match (self.language, count) {
            (Language::Chinese, _) => format!("{count} {chinese}"),
            (Language::English, 1) => format!("1 {english}"),
            (Language::English, _) => format!("{count} {english}s"),
        }
    }

    /// A number, its digits in groups.
    pub(super) fn number(&self, number: &u64) -> String {
        let digits = number.to_string();
        let mut text = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place) % 3 == 0 {
                text.push(if self.language == Language::Chinese { ',' } else { '\u{202f}' });
            }
            text.push(digit);
        }
        text
    }

    /// How much of a limit is used up, in percent.
    pub(super) fn percent(&self, used: &u64, limit: &u64) -> u64 {
        used.saturating_mul(100) / (*limit).max(1)
    }

    pub(super) fn seal(&self, seal: &Seal) -> &'static str {
        match seal {
            Seal::Open => self.w.open,
            Seal::Sealed => self.w.sealed,
            Seal::Away => self.w.away,
        }
    }

    pub(super) fn state(&self, state: &VersionState) -> &'static str {
        match state {
            VersionState::Active => self.w.active,
            VersionState::DecryptOnly => self.w.decrypt_only,
            VersionState::Disabled => self.w.disabled,
            VersionState::DestroyScheduled => self.w.destroy_scheduled,
            VersionState::Destroyed => self.w.destroyed,
        }
    }

    pub(super) fn app_state(&self, state: &AppState) -> &'static str {
        match state {
            AppState::Active => self.w.active,
            AppState::Disabled => self.w.disabled,
        }
    }

    pub(super) fn operator_state(&self, state: &OperatorState) -> &'static str {
        match state {
            OperatorState::Active => self.w.active,
            OperatorState::Disabled => self.w.disabled,
        }
    }

    pub(super) fn stage(&self, stage: &RotationStage) -> &'static str {
        match stage {
            RotationStage::None => self.w.rotation_none,
            RotationStage::Waiting => self.w.rotation_waiting,
            RotationStage::Moving => self.w.rotation_moving,
            RotationStage::Stuck => self.w.rotation_stuck,
            RotationStage::Done => self.w.rotation_done,
        }
    }

    pub(super) fn request_state(&self, state: &str) -> &'static str {
        match state {
            "pending" => self.w.pending,
            "approved" => self.w.approved,
            "done" => self.w.done,
            "refused" => self.w.refused,
            _ => self.w.expired,
        }
    }

    /// What a role may do, in words.
    pub(super) fn role(&self, role: &OperatorRole) -> &'static str {
        match role {
            OperatorRole::KeyAdmin => self.w.role_key_admin,
            OperatorRole::AppAdmin => self.w.role_app_admin,
            OperatorRole::Auditor => self.w.role_auditor,
            OperatorRole::RootOfficer => self.w.role_root_officer,
        }
    }

    /// Roles, by name.
    pub(super) fn roles(&self, roles: &[OperatorRole]) -> String {
        let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
        names.join(", ")
    }

    /// Several things in a row.
    pub(super) fn list<T: ToString>(&self, things: &[T]) -> String {
        let texts: Vec<_> = things.iter().map(ToString::to_string).collect();
        texts.join(", ")
    }

    /// Why a login was refused.
    pub(super) fn reason<'a>(&'a self, why: &'a str) -> &'a str {
        match why {
            "unknown AppKey, wrong proof, or disabled" => self.w.why_proof,
            "the address is not on the app's allow-list" => self.w.why_address,
            other => other,
        }
    }

    /// What an audit record tells of.
    pub(super) fn event(&self, name: &str) -> &'static str {
        match name {
            "started" => self.w.event_started,
            "lost" => self.w.event_lost,
            "logged-in" => self.w.event_logged_in,
            "login-refused" => self.w.event_login_refused,
            "logins-refused" => self.w.event_logins_refused,
            "opened" => self.w.event_opened,
            "used" => self.w.event_used,
            "changed" => self.w.event_changed,
            "done" => self.w.event_done,
            "ceremony" => self.w.event_ceremony,
            "heads" => self.w.event_heads,
            _ => self.w.event_unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn values_take_their_places() {
        let values = ["a".to_owned(), "b".to_owned()];
        assert_eq!(fill("{} and {}", &values), "a and b");
        assert_eq!(fill("{1} 和 {0}", &values), "b 和 a");
        assert_eq!(fill("{}", &["{}".to_owned()]), "{}");
    }
}
