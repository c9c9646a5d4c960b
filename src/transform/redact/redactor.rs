//! Rules, carried out on entities as they are stored: before any target's form is made of them.
//!
//! Knows values. Which rules speak of a property is for `rules`; keys are hashed in `keys`.

use std::borrow::Cow;

use super::key::RedactKey;
use super::rule::Action;
use super::rules::{PartialMatch, RedactError, RuleSet};
use super::{RedactRule, fake, keys};
use crate::entity::api_value::{ApiValueKind, MEANING_WHEN, rest_value};
use crate::entity::{Entity, MEANING_EMPTY_LIST, Property, Value};
use crate::model::Kind;

/// Carries rules out.
#[derive(Debug, Clone)]
pub struct Redactor {
    rules: RuleSet,
    /// There where a rule needs it.
    key: Option<RedactKey>,
}

impl Redactor {
    /// A redactor for an archive of these kinds: see [`RuleSet::new`].
    ///
    /// # Errors
    /// [`RedactError`], also where a rule needs a key and there is none.
    pub fn new<'k>(
        rules: &[RedactRule],
        kinds: impl IntoIterator<Item = &'k Kind>,
        key: Option<&RedactKey>,
    ) -> Result<Self, RedactError> {
        let resolved = RuleSet::new(rules, kinds)?;
        match rules.iter().find(|rule| rule.needs_key()) {
            Some(rule) if key.is_none() => Err(RedactError::NoKey {
                rule: rule.to_string(),
            }),
            _ => Ok(Redactor {
                rules: resolved,
                key: key.cloned(),
            }),
        }
    }

    /// Whether anything may change in entities of that kind: a property, or a key in it.
    pub fn applies_to(&self, kind: &Kind) -> bool {
        self.rules.applies_to(kind)
    }

    /// Whether any key changes.
    pub fn rewrites_keys(&self) -> bool {
        self.rules.rewrites_keys()
    }

    /// Redacts an entity and hands it on. Keys of `project` change, and those of none; keys of
    /// other projects stay.
    pub fn redact<T>(
        &self,
        mut entity: Entity<'_>,
        project: &str,
        then: impl FnOnce(&Entity<'_>) -> T,
    ) -> T {
        let kind = entity
            .key
            .as_ref()
            .and_then(|key| key.path.last())
            .map_or("", |last| last.kind);
        let begun = self.rules.partial_matches(kind);
        if !begun.is_empty() {
            self.properties(&mut entity, &begun);
        }
        match &self.key {
            Some(key) if self.rewrites_keys() => {
                keys::hashed(entity, project, &self.rules, key, then)
            }
            _ => then(&entity),
        }
    }

    fn properties(&self, entity: &mut Entity<'_>, begun: &[PartialMatch]) {
        entity.properties.retain_mut(|property| {
            // Of several rules the last one counts.
            let mut last = None;
            let within = self
                .rules
                .advance(begun, property.name, |rule| last = last.max(Some(rule)));
            match last.and_then(|rule| self.rules.action(rule)) {
                Some(Action::Drop) => return false,
                Some(action) => self.replace(property, action),
                None if within.is_empty() => {}
                None => {
                    if let Value::Entity(entity) = &mut property.value {
                        self.properties(entity, &within);
                    }
                    let mut is_named = false;
                    self.rules
                        .for_each_within(&within, property, |_| is_named = true);
                    if is_named {
                        set_value(property, Value::Null, 0);
                    }
                }
            }
            true
        });
    }

    /// Puts something else for a value. What the service takes it for stays where the new value is
    /// of the same type.
    fn replace(&self, property: &mut Property<'_>, action: Action) {
        let (value, meaning) = match property.meaning {
            // An empty array holds no value, or none that the service looks at.
            MEANING_EMPTY_LIST => (Value::Null, MEANING_EMPTY_LIST),
            _ => self
                .replacement(property, action)
                .unwrap_or((Value::Null, 0)),
        };
        set_value(property, value, meaning);
    }

    /// The value that is put, and its meaning; null where there is none.
    fn replacement(
        &self,
        property: &Property<'_>,
        action: Action,
    ) -> Option<(Value<'static>, u64)> {
        if !matches!(property.value, Value::Bytes(_) | Value::Integer(_)) {
            return None;
        }
        let key = self.key.as_ref();
        let text = |text: String| Value::Bytes(Cow::Owned(text.into_bytes()));
        match (action, rest_value(property).value) {
            (Action::Mask, ApiValueKind::Text(old)) => {
                Some((text("*".repeat(old.chars().count())), property.meaning))
            }
            (Action::Fake, ApiValueKind::Text(old)) => {
                Some((text(fake::text(key?, property, old)), property.meaning))
            }
            (Action::Hash, ApiValueKind::Text(old)) => {
                Some((text(key?.text(old.as_bytes())), property.meaning))
            }
            (Action::Hash, ApiValueKind::Blob(old)) => Some((text(key?.text(old)), 0)),
            // A time that is out of a time's range is one all the same.
            (Action::Hash, ApiValueKind::Integer(old)) if property.meaning != MEANING_WHEN => {
                Some((Value::Integer(key?.integer(old)), 0))
            }
            (Action::Drop | Action::Null | Action::Mask | Action::Fake | Action::Hash, _) => None,
        }
    }
}

fn set_value<'a>(property: &mut Property<'a>, value: Value<'a>, meaning: u64) {
    property.value = value;
    property.meaning = meaning;
    property.meaning_uri = "";
}
