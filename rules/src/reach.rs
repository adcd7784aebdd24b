//! The namespaces that a session is limited to, on top of what its role may do, while it serves a caller from outside.

/// The most namespaces that a session may be limited to.
pub const MAX_NAMESPACES: usize = 100;

/// Written for a limit to no namespace at all; nothing, in a setting, is no limit.
const NOWHERE: &str = "-";

/// Whether a text can be the name of a namespace: a lower-case letter, then up to 28 of those, digits and `_`.
#[must_use]
pub fn is_namespace(name: &str) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_lowercase();
    let is_rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=29).contains(&name.len())
        && name.as_bytes().first().is_some_and(is_letter)
        && name.bytes().all(is_rest)
}

/// The namespaces that a session is limited to, as a setting keeps them: names with commas between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach(Option<String>);

impl Reach {
    /// A limit to some namespaces, or, without any, no limit. Names are those of namespaces: without commas.
    #[must_use]
    pub fn of(namespaces: Option<&[String]>) -> Self {
        Self(namespaces.map(|names| {
            if names.is_empty() {
                NOWHERE.to_owned()
            } else {
                names.join(",")
            }
        }))
    }

    /// What [`Self::as_setting`] wrote.
    #[must_use]
    pub fn from_setting(setting: &str) -> Self {
        Self((!setting.is_empty()).then(|| setting.to_owned()))
    }

    /// As a setting keeps it: empty without a limit.
    #[must_use]
    pub fn as_setting(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether there is a limit.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a namespace is within it. All namespaces together, `*`, are within no limit.
    #[must_use]
    pub fn holds(&self, namespace: &str) -> bool {
        match &self.0 {
            None => true,
            Some(names) => namespace != NOWHERE && names.split(',').any(|name| name == namespace),
        }
    }

    /// The namespaces of the limit; `None` without one.
    #[must_use]
    pub fn namespaces(&self) -> Option<Vec<&str>> {
        let names = self.0.as_deref()?;
        Some(names.split(',').filter(|name| *name != NOWHERE).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_limit_is_the_same_when_it_was_kept_as_a_setting() {
        for limit in [
            None,
            Some(names(&[])),
            Some(names(&["a"])),
            Some(names(&["a", "b_1"])),
        ] {
            let reach = Reach::of(limit.as_deref());
            assert_eq!(Reach::from_setting(reach.as_setting()), reach);
            assert_eq!(reach.is_limited(), limit.is_some());
            let listed = limit
                .as_deref()
                .map(|names| names.iter().map(String::as_str).collect());
            assert_eq!(reach.namespaces(), listed);
        }
    }

    #[test]
    fn what_cannot_be_a_namespace_is_none() {
        assert!(is_namespace("a") && is_namespace("shop_2") && is_namespace(&"a".repeat(29)));
        for name in [
            "",
            "2a",
            "_a",
            "A",
            "a-b",
            "a,b",
            "*",
            "-",
            "é",
            &"a".repeat(30),
        ] {
            assert!(!is_namespace(name), "{name}");
        }
    }

    #[test]
    fn only_the_names_of_a_limit_are_within_it() {
        let reach = Reach::of(Some(&names(&["shop", "shop_eu"])));
        assert!(reach.holds("shop") && reach.holds("shop_eu"));
        for outside in ["sho", "shop_", "eu", "", "*", "shop,shop_eu", "-"] {
            assert!(!reach.holds(outside), "{outside}");
        }
    }

    #[test]
    fn a_limit_to_nothing_holds_nothing_and_no_limit_everything() {
        let nowhere = Reach::of(Some(&[]));
        assert!(["", "-", "*", "a"].iter().all(|name| !nowhere.holds(name)));
        assert!(Reach::of(None).holds("a") && Reach::of(None).holds("*"));
    }
}
