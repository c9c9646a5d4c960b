//! What becomes of properties on their way into a test environment: rules, and how they are spelled.
//!
//! Knows rules and values. Must not know who restores what, or where.

use std::fmt;
use std::str::FromStr;

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Kind and path, which the kinds of the archive tell apart.
    left: String,
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

const ACTIONS: [(Action, &str); 5] =
    [(Action::Drop, "drop"), (Action::Null, "null"), (Action::Hash, "hash"), (Action::Mask, "mask"), (Action::Fake, "fake")];

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let wrong = |found: String| RuleError { text: text.to_owned(), found };
        let (left, word) = text.rsplit_once('=').ok_or_else(|| wrong("no '='".to_owned()))?;
        let action = ACTIONS.iter().find(|(_, name)| *name == word).ok_or_else(|| wrong(format!("{word:?}")))?;
        if !left.contains('.') {
            return Err(wrong("no '.' between kind and property".to_owned()));
        }
        Ok(Rule { left: left.to_owned(), action: action.0 })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = ACTIONS.iter().find(|(action, _)| *action == self.action).map_or("", |(_, name)| name);
        write!(f, "{}={word}", self.left)
    }
}
