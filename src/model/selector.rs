//! Selectors: `KIND` in every namespace, or `NAMESPACE/KIND`, with `*` and `?` as wildcards.

use std::fmt;
use std::str::FromStr;

use super::{DEFAULT_NAMESPACE, Pair};

/// Chooses (namespace, kind) pairs. The first `/` divides, `\` before `*`, `?` or `\` takes the character as itself.
///
/// ```
/// use kindpack::model::{Pair, Selector};
/// let selector: Selector = "acme/Order*".parse().unwrap();
/// assert!(selector.matches(&Pair::new("acme", "OrderLine")));
/// assert!(!selector.matches(&Pair::new("", "OrderLine")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    text: String,
    namespace: Option<Pattern>,
    kind: Pattern,
}

/// A selector that cannot be read; the text says what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Nothing stands where a kind must stand.
    #[error("selector {0:?}: expected KIND or NAMESPACE/KIND, found no kind")]
    NoKind(String),
    /// A backslash before something that needs none.
    #[error("selector {text:?}: expected \\*, \\? or \\\\, found {found}")]
    BadEscape {
        /// The whole selector.
        text: String,
        /// What stands behind the backslash.
        found: String,
    },
}

impl Selector {
    /// Whether the selector chooses `pair`.
    pub fn matches(&self, pair: &Pair) -> bool {
        self.kind.matches(pair.kind.as_str()) && self.namespace.as_ref().is_none_or(|namespace| namespace.matches(pair.namespace.as_str()))
    }

    /// Whether the selector chooses `kind` in whatever namespace it is.
    pub fn covers_kind(&self, kind: &str) -> bool {
        self.kind.matches(kind) && self.namespace.as_ref().is_none_or(|namespace| namespace.0 == [Part::Any])
    }

    /// Whether the selector's kind part chooses `kind`, whatever the namespace.
    pub fn matches_kind(&self, kind: &str) -> bool {
        self.kind.matches(kind)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let (namespace, kind) = match text.split_once('/') {
            Some((namespace, kind)) => (Some(namespace), kind),
            None => (None, text),
        };
        if kind.is_empty() {
            return Err(SelectorError::NoKind(text.to_owned()));
        }
        let namespace = match namespace {
            None => None,
            Some(DEFAULT_NAMESPACE | "") => Some(Pattern(Vec::new())),
            Some(other) => Some(Pattern::parse(other, text)?),
        };
        Ok(Selector { text: text.to_owned(), namespace, kind: Pattern::parse(kind, text)? })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Any,
    One,
    This(char),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(Vec<Part>);

impl Pattern {
    fn parse(part: &str, whole: &str) -> Result<Self, SelectorError> {
        let mut parts = Vec::new();
        let mut chars = part.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\')) => Part::This(c),
                    other => {
                        let found = other.map_or("the end".to_owned(), |c| format!("\\{c}"));
                        return Err(SelectorError::BadEscape { text: whole.to_owned(), found });
                    }
                },
                c => Part::This(c),
            });
        }
        Ok(Pattern(parts))
    }

    /// Linear in text × pattern: on a mismatch only the latest `*` takes one character more.
    fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut t, mut p) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while let Some(&c) = text.get(t) {
            match self.0.get(p) {
                Some(Part::Any) => {
                    star = Some((p + 1, t));
                    p += 1;
                }
                Some(Part::One) => (t, p) = (t + 1, p + 1),
                Some(Part::This(want)) if *want == c => (t, p) = (t + 1, p + 1),
                _ => match star {
                    None => return false,
                    Some((after, taken)) => {
                        star = Some((after, taken + 1));
                        (t, p) = (taken + 1, after);
                    }
                },
            }
        }
        self.0.get(p..).is_some_and(|rest| rest.iter().all(|part| *part == Part::Any))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chooses(selector: &str, namespace: &str, kind: &str) -> bool {
        selector.parse::<Selector>().unwrap().matches(&Pair::new(namespace, kind))
    }

    #[test]
    fn a_bare_kind_is_chosen_in_every_namespace() {
        assert!(chooses("User", "", "User") && chooses("User", "acme", "User"));
        assert!(!chooses("User", "", "Users"));
    }

    #[test]
    fn the_first_slash_divides_so_a_kind_may_hold_slashes() {
        assert!(chooses("acme/a/b", "acme", "a/b"));
        assert!(!chooses("a/b", "", "a/b"));
        assert!(chooses("(default)/a/b", "", "a/b"));
    }

    #[test]
    fn wildcards_match_and_escapes_are_themselves() {
        assert!(chooses("*/O*L?ne", "beta", "OrderLine"));
        assert!(chooses(r"(default)/\*\?\\", "", r"*?\"));
        assert!(!chooses(r"\*", "", "x"));
        assert!(chooses("*", "", "Größe価格表"));
        assert!(!chooses("(default)/*", "acme", "User"));
    }

    #[test]
    fn what_is_no_selector_is_refused_with_what_was_found() {
        assert_eq!("".parse::<Selector>().unwrap_err(), SelectorError::NoKind(String::new()));
        assert!("acme/".parse::<Selector>().is_err());
        assert_eq!(r"a\b".parse::<Selector>().unwrap_err().to_string(), r#"selector "a\\b": expected \*, \? or \\, found \b"#);
        assert!(r"a\".parse::<Selector>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn the_spelling_of_a_pair_selects_that_pair(namespace in "[0-9A-Za-z._-]{0,9}", kind in "\\PC{1,12}", other in "\\PC{1,12}") {
            let pair = Pair::new(namespace.clone(), kind.clone());
            let selector: Selector = pair.to_string().parse().unwrap();
            assert!(selector.matches(&pair));
            assert_eq!(selector.matches(&Pair::new(namespace, other.clone())), kind == other);
        }
    }
}
