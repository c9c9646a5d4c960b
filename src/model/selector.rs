//! Selectors: `KIND` in every namespace, or `NAMESPACE/KIND`, with `*` and `?` as wildcards.

use std::fmt;
use std::str::FromStr;

use serde_with::{DeserializeFromStr, SerializeDisplay};

use super::glob::{self, PatternToken};
use super::{DEFAULT_NAMESPACE, Kind, KindRef, Namespace};

/// Chooses (namespace, kind) pairs. The first `/` divides, `\` before `*`, `?` or `\` takes the
/// character as itself.
///
/// ```
/// use kindpack::model::{KindRef, Selector};
/// let selector: Selector = "acme/Order*".parse().unwrap();
/// assert!(selector.matches(&KindRef::new("acme", "OrderLine")));
/// assert!(!selector.matches(&KindRef::new("", "OrderLine")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, SerializeDisplay, DeserializeFromStr)]
pub struct Selector {
    text: String,
    namespace: Option<Pattern>,
    kind: Pattern,
}

/// A selector that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum SelectorError {
    /// Nothing stands where a kind must stand.
    #[error("selector {0:?} names no kind: write KIND or NAMESPACE/KIND")]
    NoKind(String),
    /// A backslash before something that needs none.
    #[error("selector `{text}` has a single backslash: write `\\\\` for a backslash")]
    BadEscape {
        /// The whole selector.
        text: String,
    },
}

impl Selector {
    /// `*`: every kind in every namespace.
    pub fn everything() -> Self {
        Selector {
            text: "*".to_owned(),
            namespace: None,
            kind: Pattern(vec![PatternToken::AnyChars]),
        }
    }

    /// The selector of a kind in every namespace.
    pub fn from_kind(kind: &Kind) -> Self {
        let pair = KindRef::new("", kind.as_str());
        let text = if kind.as_str().contains('/') {
            format!("*/{}", pair.escaped_kind())
        } else {
            pair.escaped_kind()
        };
        Selector {
            text,
            namespace: None,
            kind: Pattern::literal(kind.as_str()),
        }
    }

    /// Whether the selector chooses `pair`.
    pub fn matches(&self, pair: &KindRef) -> bool {
        self.matches_names(&pair.namespace, &pair.kind)
    }

    /// Whether the selector chooses the pair of these names.
    pub fn matches_names(&self, namespace: &Namespace, kind: &Kind) -> bool {
        self.kind.matches(kind.as_str())
            && self
                .namespace
                .as_ref()
                .is_none_or(|pattern| pattern.matches(namespace.as_str()))
    }

    /// Whether the selector chooses what is of a kind and a namespace, where `None` stands for all
    /// of them; `None` where it chooses a part.
    pub fn chooses(&self, namespace: Option<&Namespace>, kind: Option<&Kind>) -> Option<bool> {
        let kind = self.kind.matches_all_of(kind.map(Kind::as_str));
        let namespace = match &self.namespace {
            None => Some(true),
            Some(pattern) => pattern.matches_all_of(namespace.map(Namespace::as_str)),
        };
        match (namespace, kind) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }

    /// The only kind that the selector chooses, where it holds no wildcard.
    pub fn exact_kind(&self) -> Option<Kind> {
        let characters = self.kind.0.iter().map(|glyph| match glyph {
            PatternToken::Literal(c) => Some(*c),
            PatternToken::AnyChars | PatternToken::AnyChar => None,
        });
        characters.collect::<Option<String>>().map(Kind::new)
    }
}

/// The selector of one pair.
impl From<&KindRef> for Selector {
    fn from(pair: &KindRef) -> Self {
        Selector {
            text: pair.to_string(),
            namespace: Some(Pattern::literal(pair.namespace.as_str())),
            kind: Pattern::literal(pair.kind.as_str()),
        }
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
        Ok(Selector {
            text: text.to_owned(),
            namespace,
            kind: Pattern::parse(kind, text)?,
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(Vec<PatternToken>);

impl Pattern {
    fn literal(text: &str) -> Self {
        Pattern(text.chars().map(PatternToken::Literal).collect())
    }

    fn parse(part: &str, whole: &str) -> Result<Self, SelectorError> {
        let mut parts = Vec::new();
        let mut chars = part.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => PatternToken::AnyChars,
                '?' => PatternToken::AnyChar,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\')) => PatternToken::Literal(c),
                    _ => {
                        let text = whole.to_owned();
                        return Err(SelectorError::BadEscape { text });
                    }
                },
                c => PatternToken::Literal(c),
            });
        }
        Ok(Pattern(parts))
    }

    fn matches(&self, text: &str) -> bool {
        glob::matches(&self.0, text)
    }

    /// Whether it matches a text, or all texts; `None` where it matches some of them.
    fn matches_all_of(&self, text: Option<&str>) -> Option<bool> {
        match text {
            Some(text) => Some(self.matches(text)),
            None => (self.0 == [PatternToken::AnyChars]).then_some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chooses(selector: &str, namespace: &str, kind: &str) -> bool {
        selector
            .parse::<Selector>()
            .unwrap()
            .matches(&KindRef::new(namespace, kind))
    }

    #[test]
    fn a_bare_kind_is_chosen_in_every_namespace() {
        assert!(chooses("User", "", "User") && chooses("User", "acme", "User"));
        assert!(!chooses("User", "", "Users"));
    }

    #[test]
    fn first_slash_divides_namespace_and_kind() {
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
    fn all_kinds_or_namespaces_are_chosen_in_part() {
        let (acme, user) = (Namespace::new("acme"), Kind::new("User"));
        for (selector, namespace, kind, chosen) in [
            ("User", None, Some(&user), Some(true)),
            ("Order", None, Some(&user), Some(false)),
            ("acme/User", None, Some(&user), None),
            ("acme/Order", None, Some(&user), Some(false)),
            ("*/User", None, Some(&user), Some(true)),
            ("User", Some(&acme), None, None),
            ("beta/User", Some(&acme), None, Some(false)),
            ("acme/*", Some(&acme), None, Some(true)),
            ("*", None, None, Some(true)),
        ] {
            assert_eq!(
                selector
                    .parse::<Selector>()
                    .unwrap()
                    .chooses(namespace, kind),
                chosen,
                "{selector}"
            );
        }
        assert_eq!(
            r"acme/a\*b".parse::<Selector>().unwrap().exact_kind(),
            Some(Kind::new("a*b"))
        );
        assert_eq!("a*b".parse::<Selector>().unwrap().exact_kind(), None);
    }

    #[test]
    fn invalid_selector_is_refused_with_reason() {
        assert_eq!(
            "".parse::<Selector>().unwrap_err(),
            SelectorError::NoKind(String::new())
        );
        assert!("acme/".parse::<Selector>().is_err());
        assert_eq!(
            r"a\b".parse::<Selector>().unwrap_err().to_string(),
            r"selector `a\b` has a single backslash: write `\\` for a backslash"
        );
        assert!(r"a\".parse::<Selector>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn the_spelling_of_a_pair_selects_that_pair(namespace in "[0-9A-Za-z._-]{0,9}", kind in "\\PC{1,12}", other in "\\PC{1,12}") {
            let pair = KindRef::new(namespace.clone(), kind.clone());
            let selector: Selector = pair.to_string().parse().unwrap();
            assert!(selector.matches(&pair));
            assert_eq!(Selector::from(&pair), selector);
            assert_eq!(selector.matches(&KindRef::new(namespace, other.clone())), kind == other);
        }
    }
}
