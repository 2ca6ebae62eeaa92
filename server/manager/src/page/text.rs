//! Times, durations and numbers, as people read them.

use std::time::{Duration, UNIX_EPOCH};

use sealwire_engine::document::{AppState, OperatorRole, OperatorState, VersionState};

use super::language::Language;
use super::visit::Frame;
use crate::RotationStage;
use crate::audit::plain;
use crate::overview::Seal;

/// Puts values in the places of a text: `{}`, one after another, or `{0}`, `{1}` where languages order them otherwise.
/// A value makes no other text of it: neither does it have places of its own, nor does it turn the direction of
/// what follows.
fn fill(text: &str, values: &[String]) -> String {
    let (mut filled, mut rest, mut next) = (String::new(), text, 0);
    while let Some((before, after)) = rest.split_once('{') {
        let (place, after) = after.split_once('}').unwrap_or((after, ""));
        let value = values.get(place.parse().unwrap_or(next));
        filled += before;
        filled += &value.map(|value| plain(value)).unwrap_or_default();
        (rest, next) = (after, next + 1);
    }
    filled + rest
}

/// Days, of seconds: a fraction where it is not a whole number.
pub(super) fn days(seconds: u64) -> String {
    const DAY: u64 = 86_400;
    match seconds % DAY {
        0 => (seconds / DAY).to_string(),
        // Within a century it is exact to less than a second.
        _ => format!("{:.6}", Duration::from_secs(seconds).as_secs_f64() / 86_400.0),
    }
}

/// Seconds, of days that somebody has filled in; nothing is none. What was shown of `before` and was left as it is,
/// stays just that. `None` of what is no number.
pub(super) fn seconds_of_days(text: &str, before: Option<u64>) -> Option<u64> {
    let text = text.trim();
    if text.is_empty() {
        return Some(0);
    }
    if let Some(before) = before.filter(|before| days(*before) == text) {
        return Some(before);
    }
    let days: f64 = text.parse().ok().filter(|days| (0.0..=36_500.0).contains(days))?;
    Duration::try_from_secs_f64(days * 86_400.0 + 0.5).ok().map(|time| time.as_secs())
}

impl Frame {
    /// A text with a value in it.
    #[allow(clippy::needless_pass_by_value, reason = "templates have values and references")]
    pub(super) fn say(&self, text: &str, value: impl ToString) -> String {
        fill(text, &[value.to_string()])
    }

    /// A text with two values in it.
    #[allow(clippy::needless_pass_by_value, reason = "as above")]
    pub(super) fn say2(&self, text: &str, one: impl ToString, two: impl ToString) -> String {
        fill(text, &[one.to_string(), two.to_string()])
    }

    /// A text with three values in it.
    #[allow(clippy::needless_pass_by_value, reason = "as above")]
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
        let unit = units
            .iter()
            .find(|(length, ..)| *seconds >= *length && seconds.is_multiple_of(*length));
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
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                text.push(',');
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
    use super::{days, fill, seconds_of_days};

    #[test]
    fn days_are_what_was_shown() {
        for (seconds, shown) in [(0, "0"), (604_800, "7"), (43_200, "0.500000"), (5, "0.000058")] {
            assert_eq!(days(seconds), shown);
            assert_eq!(seconds_of_days(shown, Some(seconds)), Some(seconds));
        }
        assert_eq!(seconds_of_days(" 1 ", Some(43_200)), Some(86_400));
        assert_eq!(seconds_of_days("0.5", None), Some(43_200));
        assert_eq!(seconds_of_days("", Some(5)), Some(0));
        for none in ["-1", "x", "NaN", "inf", "99999"] {
            assert_eq!(seconds_of_days(none, None), None, "{none}");
        }
    }

    #[test]
    fn values_take_their_places() {
        let values = ["a".to_owned(), "b".to_owned()];
        assert_eq!(fill("{} and {}", &values), "a and b");
        assert_eq!(fill("{1} 和 {0}", &values), "b 和 a");
        assert_eq!(fill("{0} {1}", &["{1}".to_owned(), "b".to_owned()]), "{1} b");
        assert_eq!(fill("({})", &["a\u{202e}b".to_owned()]), "(a\u{fffd}b)");
    }
}
