//! Rules, held against the kinds of an archive: which of them speak of a property, and which of a
//! key.
//!
//! Knows names only, and needs no key: what the rules do to values is for `redactor`.

use std::collections::{BTreeSet, HashMap};

use super::rule::{Action, RedactRule, escape_name};
use crate::entity::api_value::USER_NAMES;
use crate::entity::{Entity, MEANING_ENTITY, Property, URI_ZLIB, Value};
use crate::model::glob::{self, PatternToken};
use crate::model::{Kind, nearest_name};

/// What stands for an entity's key on the left side of a rule.
const KEY: &str = "__key__";

/// Rules that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum RedactError {
    /// The left side begins with no kind.
    #[error("--redact {rule:?} does not begin with a kind of the archive")]
    NoKind {
        /// The rule.
        rule: String,
        /// The rule that was probably meant.
        nearest: Option<String>,
    },
    /// Something else than a hash is to be put for a key.
    #[error("--redact {rule:?}: a key can only be hashed: write KIND.__key__=hash")]
    KeyAction {
        /// The rule.
        rule: String,
    },
    /// The key of an embedded entity is named.
    #[error("--redact {rule:?}: __key__ must come right after a kind of the archive")]
    KeyPlace {
        /// The rule.
        rule: String,
    },
    /// There is no key, or none of any length.
    #[error("--redact {rule:?} needs a secret in KINDPACK_REDACT_KEY")]
    NoKey {
        /// The first rule that needs it.
        rule: String,
    },
}

/// Rules, resolved for the kinds of an archive.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    rules: Vec<RedactRule>,
    paths: Vec<RulePath>,
    /// For each kind the numbers of its paths.
    by_kind: HashMap<String, Vec<usize>>,
    /// Which kinds' keys are hashed: the rule's number, and the kind as the rule has it.
    keys: Vec<(usize, Vec<PatternToken>)>,
}

/// The right part of a left side.
#[derive(Debug, Clone)]
struct RulePath {
    /// The rule's number.
    rule: usize,
    glyphs: Vec<PatternToken>,
    /// Where in `glyphs` a name may end: at each dividing dot, and at the end.
    ends: Vec<usize>,
}

/// A path of which the first names were found.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartialMatch {
    path: usize,
    /// Where the next name begins.
    at: usize,
}

/// What comes before and after a dot of a rule.
fn divide(rule: &RedactRule, dot: usize) -> Option<(&[PatternToken], &[PatternToken])> {
    Some((rule.glyphs().get(..dot)?, rule.glyphs().get(dot + 1..)?))
}

/// A rule with the kind that is nearest to the name before its first dot.
fn nearest_rule(rule: &str, kinds: &BTreeSet<&str>) -> Option<String> {
    let (kind, rest) = rule.split_once('.')?;
    let nearest = nearest_name(kind, kinds.iter().copied())?;
    Some(format!("{}.{rest}", escape_name(nearest)))
}

impl RuleSet {
    /// Finds out where in each rule the kind ends.
    ///
    /// `kinds` are those of the archive; those that stand only in keys and references belong to
    /// them, if their keys are to be named.
    ///
    /// # Errors
    /// [`RedactError`] names the rule that cannot be followed.
    pub fn new<'k>(
        rules: &[RedactRule],
        kinds: impl IntoIterator<Item = &'k Kind>,
    ) -> Result<Self, RedactError> {
        // The same kind stands in several namespaces.
        let kinds: BTreeSet<&str> = kinds.into_iter().map(Kind::as_str).collect();
        let mut resolved = RuleSet {
            rules: rules.to_vec(),
            ..RuleSet::default()
        };
        for (number, rule) in rules.iter().enumerate() {
            let last = rule.dots().last().and_then(|dot| divide(rule, *dot));
            let is_resolved = match last.filter(|(_, last)| is_key(last)) {
                Some((kind, _)) => resolved.add_key(number, rule, kind, &kinds)?,
                None => resolved.add_paths(number, rule, &kinds),
            };
            if !is_resolved && !rule.is_optional() {
                let rule = rule.to_string();
                let nearest = nearest_rule(&rule, &kinds);
                return Err(RedactError::NoKind { rule, nearest });
            }
        }
        Ok(resolved)
    }

    /// Adds a rule for the keys of kinds; says no where the archive has no such kind.
    fn add_key(
        &mut self,
        number: usize,
        rule: &RedactRule,
        kind: &[PatternToken],
        kinds: &BTreeSet<&str>,
    ) -> Result<bool, RedactError> {
        let rule_text = || rule.to_string();
        if rule.action() != Action::Hash {
            return Err(RedactError::KeyAction { rule: rule_text() });
        }
        let is_kind = |kind: &[PatternToken]| kinds.iter().any(|name| glob::matches(kind, name));
        if is_kind(kind) {
            self.keys.push((number, kind.to_vec()));
            return Ok(true);
        }
        let is_elsewhere = rule
            .dots()
            .iter()
            .filter_map(|dot| divide(rule, *dot))
            .any(|(kind, _)| is_kind(kind));
        if is_elsewhere && !rule.is_optional() {
            return Err(RedactError::KeyPlace { rule: rule_text() });
        }
        Ok(false)
    }

    /// Adds the paths of a rule for properties, one for each place where its kind may end; says no
    /// where the archive has no such kind.
    fn add_paths(&mut self, number: usize, rule: &RedactRule, kinds: &BTreeSet<&str>) -> bool {
        let mut left = kinds.clone();
        let mut is_resolved = false;
        for dot in rule.dots().iter().rev() {
            let Some((kind, path)) = divide(rule, *dot) else {
                continue;
            };
            let matching: Vec<&str> = left
                .iter()
                .copied()
                .filter(|name| glob::matches(kind, name))
                .collect();
            if matching.is_empty() {
                continue;
            }
            is_resolved = true;
            left.retain(|name| !matching.contains(name));
            let dots = rule
                .dots()
                .iter()
                .filter_map(|other| other.checked_sub(dot + 1));
            let index = self.paths.len();
            self.paths.push(RulePath {
                rule: number,
                glyphs: path.to_vec(),
                ends: dots.chain([path.len()]).collect(),
            });
            for name in matching {
                self.by_kind.entry(name.to_owned()).or_default().push(index);
            }
            // A kind that is named in full is the one that was meant; with wildcards each kind
            // takes the longest that it fits.
            if !kind.contains(&PatternToken::AnyChars) {
                break;
            }
        }
        is_resolved
    }

    /// The rules, in the order in which they were given.
    pub fn rules(&self) -> &[RedactRule] {
        &self.rules
    }

    /// Whether anything may change in entities of that kind: a property, or a key in it.
    pub fn applies_to(&self, kind: &Kind) -> bool {
        self.rewrites_keys() || self.names_properties_of(kind)
    }

    /// Whether a rule may name properties of that kind.
    pub fn names_properties_of(&self, kind: &Kind) -> bool {
        self.by_kind.contains_key(kind.as_str())
    }

    /// Whether the rule of that number may name properties of that kind.
    pub fn names_kind(&self, rule: usize, kind: &Kind) -> bool {
        let paths = self.by_kind.get(kind.as_str()).into_iter().flatten();
        paths
            .filter_map(|path| self.paths.get(*path))
            .any(|path| path.rule == rule)
    }

    /// Whether any key changes.
    pub fn rewrites_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether ids and names of that kind are hashed, wherever they stand.
    pub(super) fn rewrites_keys_of(&self, kind: &str) -> bool {
        self.keys
            .iter()
            .any(|(_, pattern)| glob::matches(pattern, kind))
    }

    /// The rules that hash keys of some of `kinds`, and how such a rule is spelled for each of
    /// them.
    pub fn for_each_key<'k>(
        &self,
        kinds: impl IntoIterator<Item = &'k Kind>,
        mut on_match: impl FnMut(usize, String),
    ) {
        for kind in kinds {
            for (rule, _) in self
                .keys
                .iter()
                .filter(|(_, pattern)| glob::matches(pattern, kind.as_str()))
            {
                on_match(*rule, format!("{}.{KEY}", escape_name(kind.as_str())));
            }
        }
    }

    /// The properties of an entity that rules name, with the rule's number, each spelled so that a
    /// rule may begin with it. One may come often.
    pub fn each_property(
        &self,
        kind: &Kind,
        entity: &Entity<'_>,
        on_match: &mut dyn FnMut(usize, &str),
    ) {
        let mut path = escape_name(kind.as_str());
        self.walk(
            &self.partial_matches(kind.as_str()),
            entity,
            &mut path,
            on_match,
        );
    }

    fn walk(
        &self,
        begun: &[PartialMatch],
        entity: &Entity<'_>,
        path: &mut String,
        on_match: &mut dyn FnMut(usize, &str),
    ) {
        for property in &entity.properties {
            let end = path.len();
            path.push('.');
            path.push_str(&escape_name(property.name));
            let within = self.advance(begun, property.name, |rule| on_match(rule, path));
            if !within.is_empty() {
                match &property.value {
                    Value::Entity(entity) => self.walk(&within, entity, path, on_match),
                    _ => self.for_each_within(&within, property, |rule| on_match(rule, path)),
                }
            }
            path.truncate(end);
        }
    }

    pub(super) fn action(&self, rule: usize) -> Option<Action> {
        self.rules.get(rule).map(RedactRule::action)
    }

    /// The paths of a kind, none of their names found yet.
    pub(super) fn partial_matches(&self, kind: &str) -> Vec<PartialMatch> {
        self.by_kind
            .get(kind)
            .into_iter()
            .flatten()
            .map(|path| PartialMatch { path: *path, at: 0 })
            .collect()
    }

    /// What is left of paths behind a property of that name. Tells the rules that end here.
    ///
    /// A name may take several parts of a path: `a.b` is the property `b` in `a`, and also one that
    /// is called `a.b`.
    pub(super) fn advance(
        &self,
        begun: &[PartialMatch],
        name: &str,
        mut on_end: impl FnMut(usize),
    ) -> Vec<PartialMatch> {
        let mut within = Vec::new();
        for PartialMatch { path: number, at } in begun {
            let Some(path) = self.paths.get(*number) else {
                continue;
            };
            for end in path.ends.iter().filter(|end| *end >= at) {
                if !path
                    .glyphs
                    .get(*at..*end)
                    .is_some_and(|pattern| glob::matches(pattern, name))
                {
                    continue;
                }
                if *end == path.glyphs.len() {
                    on_end(path.rule);
                } else {
                    within.push(PartialMatch {
                        path: *number,
                        at: end + 1,
                    });
                }
            }
        }
        within
    }

    /// Tells the rules that name a part of a value which is redacted as a whole: a user, and an
    /// entity that is compressed.
    pub(super) fn for_each_within(
        &self,
        begun: &[PartialMatch],
        property: &Property<'_>,
        mut on_end: impl FnMut(usize),
    ) {
        match &property.value {
            // The nickname is stored, though the API has no place for it.
            Value::User(_) => USER_NAMES.into_iter().chain(["nickname"]).for_each(|name| {
                self.advance(begun, name, &mut on_end);
            }),
            Value::Bytes(_)
                if property.meaning == MEANING_ENTITY && property.meaning_uri == URI_ZLIB =>
            {
                begun
                    .iter()
                    .filter_map(|begun| self.paths.get(begun.path))
                    .for_each(|path| on_end(path.rule));
            }
            _ => {}
        }
    }
}

fn is_key(glyphs: &[PatternToken]) -> bool {
    glyphs
        .iter()
        .copied()
        .eq(KEY.chars().map(PatternToken::Literal))
}
