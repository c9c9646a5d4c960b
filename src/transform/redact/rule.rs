//! One rule, and how it is spelled.
//!
//! Knows the spelling. Where the kind ends and the path begins is not in it: the kinds of the
//! archive tell (`rules`).

use std::fmt;
use std::str::FromStr;

use crate::model::glob::PatternToken;

/// What a rule does to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Takes the property away.
    Drop,
    /// Puts null in its place.
    Null,
    /// Puts a keyed hash in its place: the same value always gives the same hash.
    Hash,
    /// Puts `*` for each character.
    Mask,
    /// Puts a plausible value in its place, always the same one for the same value.
    Fake,
}

/// `KIND.path=ACTION`, as it was given.
///
/// A dot divides, `*` stands for any characters of a name; `\.`, `\*`, `\?` and `\\` are
/// themselves. A `?` before all of it says that the rule need not match anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedactRule {
    /// Whether it may match nothing.
    is_optional: bool,
    /// Kind and path, which the kinds of the archive tell apart.
    left: String,
    /// The same, read: a dividing dot is a dot here.
    glyphs: Vec<PatternToken>,
    /// Where in `glyphs` the dividing dots stand.
    dots: Vec<usize>,
    /// What is done.
    action: Action,
}

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--redact {text:?}: expected KIND.property=drop|null|hash|mask|fake, found {found}")]
pub struct RuleError {
    /// All of it.
    text: String,
    /// What is wrong with it.
    found: String,
}

const ACTIONS: [(Action, &str); 5] = [
    (Action::Drop, "drop"),
    (Action::Null, "null"),
    (Action::Hash, "hash"),
    (Action::Mask, "mask"),
    (Action::Fake, "fake"),
];

impl Action {
    /// Whether what is put in place depends on a key.
    pub fn needs_key(self) -> bool {
        matches!(self, Action::Hash | Action::Fake)
    }
}

impl RedactRule {
    /// Whether the user says that the rule may match nothing.
    pub fn is_optional(&self) -> bool {
        self.is_optional
    }

    /// What is done.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Whether the rule can only be followed with a key: hashes and made-up values depend on it.
    pub fn needs_key(&self) -> bool {
        self.action.needs_key()
    }

    pub(super) fn glyphs(&self) -> &[PatternToken] {
        &self.glyphs
    }

    pub(super) fn dots(&self) -> &[usize] {
        &self.dots
    }
}

impl FromStr for RedactRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let wrong = |found: &str| RuleError {
            text: text.to_owned(),
            found: found.to_owned(),
        };
        let (left, word) = text.rsplit_once('=').ok_or_else(|| wrong("no '='"))?;
        let action = ACTIONS
            .iter()
            .find(|(_, name)| *name == word)
            .ok_or_else(|| wrong(&format!("{word:?}")))?;
        let (is_optional, left) = left
            .strip_prefix('?')
            .map_or((false, left), |left| (true, left));
        let (mut glyphs, mut dots) = (Vec::new(), Vec::new());
        let mut chars = left.chars();
        while let Some(c) = chars.next() {
            if c == '.' {
                dots.push(glyphs.len());
            }
            glyphs.push(match c {
                '*' => PatternToken::AnyChars,
                '\\' => match chars.next() {
                    Some(c @ ('.' | '*' | '?' | '\\')) => PatternToken::Literal(c),
                    other => {
                        return Err(wrong(
                            &other.map_or("\\ at the end".to_owned(), |c| format!("\\{c}")),
                        ));
                    }
                },
                c => PatternToken::Literal(c),
            });
        }
        let last = glyphs.len().wrapping_sub(1);
        match (dots.first(), dots.last()) {
            (None, _) => Err(wrong("no '.' between kind and property")),
            (Some(0), _) => Err(wrong("no kind")),
            (_, Some(dot)) if *dot == last => Err(wrong("no property")),
            _ => Ok(RedactRule {
                is_optional,
                left: left.to_owned(),
                glyphs,
                dots,
                action: action.0,
            }),
        }
    }
}

impl fmt::Display for RedactRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = ACTIONS
            .iter()
            .find(|(action, _)| *action == self.action)
            .map_or("", |(_, name)| name);
        let mark = if self.is_optional { "?" } else { "" };
        write!(f, "{mark}{}={word}", self.left)
    }
}

/// A name as a rule has it, so that it stands for itself and nothing else.
pub(super) fn escape_name(name: &str) -> String {
    let mut spelled = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '.' | '*' | '?' | '\\') {
            spelled.push('\\');
        }
        spelled.push(c);
    }
    spelled
}
