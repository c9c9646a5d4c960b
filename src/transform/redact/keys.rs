//! Ids and names in keys, hashed wherever they stand: own keys, ancestors, references, keys of
//! embedded entities.
//!
//! Knows keys. Which kinds are meant is for `rules`.

use std::collections::HashMap;

use super::key::RedactKey;
use super::rules::RuleSet;
use crate::entity::{Entity, Id, Key, Value};

/// Hands on the entity with hashed keys. Keys of other projects stay: what they refer to is in no
/// archive of this one.
pub(super) fn hashed<T>(
    entity: Entity<'_>,
    project: &str,
    rules: &RuleSet,
    secret: &RedactKey,
    then: impl FnOnce(&Entity<'_>) -> T,
) -> T {
    // New names live as long as the entity that holds them is handed on.
    let mut names: HashMap<String, String> = HashMap::new();
    let mut entity = entity;
    for_each_key(&mut entity, &mut |key| {
        each_element(key, project, rules, |id| match id {
            Id::Name(name) if !name.is_empty() && !names.contains_key(*name) => {
                names.insert((*name).to_owned(), secret.text(name.as_bytes()));
            }
            _ => {}
        });
    });
    let mut entity: Entity<'_> = entity;
    for_each_key(&mut entity, &mut |key| {
        each_element(key, project, rules, |id| match id {
            Id::Name(name) => *name = names.get(*name).map_or("", String::as_str),
            Id::Number(number) if *number != 0 => *number = secret.integer(*number),
            // An incomplete key stays one.
            Id::Number(_) | Id::None => {}
        });
    });
    then(&entity)
}

fn each_element<'a>(
    key: &mut Key<'a>,
    project: &str,
    rules: &RuleSet,
    mut on_id: impl FnMut(&mut Id<'a>),
) {
    // Embedded entities may have keys without a project.
    if key.app.is_empty() || key.project() == project {
        key.path
            .iter_mut()
            .filter(|element| rules.rewrites_keys_of(element.kind))
            .for_each(|element| on_id(&mut element.id));
    }
}

fn for_each_key<'a>(entity: &mut Entity<'a>, on_key: &mut dyn FnMut(&mut Key<'a>)) {
    entity.key.iter_mut().for_each(&mut *on_key);
    for property in &mut entity.properties {
        match &mut property.value {
            Value::Reference(key) => on_key(key),
            Value::Entity(entity) => for_each_key(entity, on_key),
            _ => {}
        }
    }
}
