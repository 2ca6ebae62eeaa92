//! Languages of the pages, and which one somebody reads.

/// A language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Chinese,
}

impl Language {
    /// The language that was chosen, or else the first one of `Accept-Language` that there is (RFC 9110, section
    /// 12.5.4; browsers send it in the order of preference).
    pub(super) fn of(chosen: Option<&str>, accepted: &str) -> Self {
        let tags =
            accepted.split(',').map(|part| part.split(';').next().unwrap_or_default().trim());
        chosen.into_iter().chain(tags).find_map(Self::named).unwrap_or(Self::English)
    }

    /// The language of a tag (RFC 5646).
    pub(super) fn named(tag: &str) -> Option<Self> {
        match tag.split('-').next()?.to_ascii_lowercase().as_str() {
            "en" => Some(Self::English),
            "zh" => Some(Self::Chinese),
            _ => None,
        }
    }

    pub(super) const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-CN",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_chosen_or_accepted() {
        assert_eq!(Language::of(None, ""), Language::English);
        assert_eq!(Language::of(None, "zh-CN,zh;q=0.9,en;q=0.8"), Language::Chinese);
        assert_eq!(Language::of(None, "fr, en-GB;q=0.8, zh"), Language::English);
        assert_eq!(Language::of(Some("zh-CN"), "en"), Language::Chinese);
        assert_eq!(Language::of(Some("xx"), "en"), Language::English);
    }
}
