//! One rule, and how it is spelled.
//!
//! Knows the spelling. Where the kind ends and the path begins is not in it: the kinds of the
//! archive tell (`rules`).

use std::fmt;
use std::str::FromStr;

use serde_with::{DeserializeFromStr, SerializeDisplay};
use strum::VariantNames;

use crate::model::glob::PatternToken;
use crate::model::nearest_name;

/// What a rule does to a value.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::EnumString, strum::VariantNames,
)]
#[strum(serialize_all = "kebab-case")]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, SerializeDisplay, DeserializeFromStr)]
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
#[error("--redact {text:?} {fault}: write KIND.property={}", Action::words())]
pub struct RuleError {
    /// All of it.
    text: String,
    /// What is wrong with it.
    fault: String,
}

impl Action {
    /// The words of all actions, divided by `|`.
    pub fn words() -> String {
        Action::VARIANTS.join("|")
    }

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

    /// The rule for all properties beside that of this one: for `Customer.mail=mask` it names
    /// `Customer.*`.
    pub fn for_siblings(&self) -> Option<RedactRule> {
        let (parent, _) = self.divided()?;
        format!("?{parent}.*=drop").parse().ok()
    }

    /// The left side of the rule of a sibling that has nearly the name of this rule's property.
    pub fn nearest<'a>(&self, siblings: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let (_, name) = self.divided()?;
        let names: Vec<(&str, &str)> = siblings.into_iter().filter_map(last_dot).collect();
        let nearest = nearest_name(name, names.iter().map(|(_, name)| *name))?;
        let found = names.iter().find(|(_, name)| *name == nearest)?;
        Some(format!("{}.{}", found.0, found.1))
    }

    /// The left side, at its last dividing dot.
    fn divided(&self) -> Option<(&str, &str)> {
        last_dot(&self.left)
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
        parse(text).map_err(|fault| RuleError {
            text: text.to_owned(),
            fault,
        })
    }
}

/// A rule, or what is wrong with it.
fn parse(text: &str) -> Result<RedactRule, String> {
    let (left, word) = text.rsplit_once('=').ok_or("has no `=`")?;
    let action = word
        .parse()
        .map_err(|_| format!("has an unknown action {word:?}"))?;
    let optional = left.strip_prefix('?');
    let left = optional.unwrap_or(left);
    let (glyphs, dots) = read_path(left)?;
    Ok(RedactRule {
        is_optional: optional.is_some(),
        left: left.to_owned(),
        glyphs,
        dots,
        action,
    })
}

/// The left side of a rule, at its last dividing dot.
fn last_dot(left: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    let mut dot = None;
    for (at, c) in left.char_indices() {
        if c == '.' && !is_escaped {
            dot = Some(at);
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    let (parent, name) = left.split_at_checked(dot?)?;
    Some((parent, name.strip_prefix('.')?))
}

/// Kind and path, and where the dividing dots stand.
fn read_path(left: &str) -> Result<(Vec<PatternToken>, Vec<usize>), String> {
    let (mut glyphs, mut dots) = (Vec::new(), Vec::new());
    let mut chars = left.chars();
    while let Some(c) = chars.next() {
        if c == '.' {
            dots.push(glyphs.len());
        }
        glyphs.push(match c {
            '*' => PatternToken::AnyChars,
            '\\' => PatternToken::Literal(escaped(chars.next())?),
            c => PatternToken::Literal(c),
        });
    }
    check_dots(&dots, glyphs.len())?;
    Ok((glyphs, dots))
}

/// The character that a backslash before it makes stand for itself.
fn escaped(next: Option<char>) -> Result<char, String> {
    match next {
        Some(c @ ('.' | '*' | '?' | '\\')) => Ok(c),
        Some(c) => Err(format!("holds `\\{c}`, which means nothing")),
        None => Err("ends with a single backslash".to_owned()),
    }
}

/// Something has to stand before the first dot, and after the last one.
fn check_dots(dots: &[usize], len: usize) -> Result<(), &'static str> {
    match (dots.first(), dots.last()) {
        (None, _) => Err("has no `.` between kind and property"),
        (Some(0), _) => Err("names no kind"),
        (_, Some(dot)) if dot + 1 == len => Err("names no property"),
        _ => Ok(()),
    }
}

impl fmt::Display for RedactRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_optional { "?" } else { "" };
        write!(f, "{mark}{}={}", self.left, self.action)
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
