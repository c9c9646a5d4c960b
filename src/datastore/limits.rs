//! What the real service takes of an entity, told before it is sent. (The emulator takes nearly
//! anything.)
//!
//! Knows serialized `google.datastore.v1.Entity`s. Never refuses what the service might take, and
//! never tells a value.

use crate::entity::wire::{Field, Fields, WireError};

/// An entity, all in all.
const MAX_ENTITY_BYTES: usize = 1_048_572;

/// A text or blob that is not indexed.
const MAX_UNINDEXED_BYTES: usize = 1_048_487;

/// A text or blob that is indexed.
const MAX_INDEXED_BYTES: usize = 1_500;

/// What of an entity is too large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeViolation {
    /// Which part, such as `indexed property notes`.
    pub part: String,
    /// How long it is; of an entity, at least.
    pub bytes: usize,
    /// The limit.
    pub limit: usize,
}

/// Looks for what is too large in a serialized entity.
///
/// Of the whole entity only names, texts and blobs are counted, so that nothing is refused here
/// that the service would take. Values inside embedded entities are left to the service: whether
/// they are indexed depends on more than themselves.
pub fn find_oversized(entity: &[u8]) -> Option<SizeViolation> {
    let mut whole = 0;
    // What is no entity is left to the service.
    let found = properties(entity, &mut whole).unwrap_or(None);
    found.or_else(|| {
        (whole > MAX_ENTITY_BYTES).then(|| SizeViolation {
            part: "the entity".to_owned(),
            bytes: whole,
            limit: MAX_ENTITY_BYTES,
        })
    })
}

fn properties(entity: &[u8], whole: &mut usize) -> Result<Option<SizeViolation>, WireError> {
    for field in Fields::new(entity) {
        let field = field?;
        if field.number != 3 {
            continue;
        }
        if let Some(found) = property(field.bytes()?, whole)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn property(entry: Fields<'_>, whole: &mut usize) -> Result<Option<SizeViolation>, WireError> {
    let mut name = "";
    for field in entry {
        let field = field?;
        match field.number {
            1 => {
                name = field.text()?;
                *whole += name.len();
            }
            2 => {
                if let Some((bytes, limit)) = value(&field, whole)? {
                    return Ok(Some(SizeViolation::of_property(name, bytes, limit)));
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

impl SizeViolation {
    fn of_property(name: &str, bytes: usize, limit: usize) -> Self {
        let word = if limit == MAX_INDEXED_BYTES {
            "indexed property"
        } else {
            "property"
        };
        SizeViolation {
            part: format!("{word} {name}"),
            bytes,
            limit,
        }
    }
}

/// The length and limit of a value, or of an element of an array, that is too long.
fn value(value: &Field<'_>, whole: &mut usize) -> Result<Option<(usize, usize)>, WireError> {
    let (mut len, mut unindexed) = (0, false);
    for field in value.bytes()? {
        let field = field?;
        match field.number {
            // Text and blob.
            17 | 18 => len = field.bytes()?.bytes().len(),
            // Whether it is left out of the indexes.
            19 => unindexed = field.varint()? != 0,
            // An array.
            9 => {
                for element in field.bytes()? {
                    if let Some(found) = self::value(&element?, whole)? {
                        return Ok(Some(found));
                    }
                }
            }
            // An embedded entity: what of it is text cannot be told from its tags at a glance, so
            // it does not count.
            _ => {}
        }
    }
    *whole += len;
    let limit = if unindexed {
        MAX_UNINDEXED_BYTES
    } else {
        MAX_INDEXED_BYTES
    };
    Ok((len > limit).then_some((len, limit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::testing::{key, property};
    use crate::entity::{Entity, Id, KeyMapping, Property, Value, message};

    fn largest(properties: Vec<Property<'_>>) -> Option<SizeViolation> {
        let mut message = Vec::new();
        message::write_entity(
            &Entity {
                key: Some(key("p", "", "K", Id::Number(1))),
                properties,
            },
            &KeyMapping::identity(),
            &mut message,
        );
        find_oversized(&message)
    }

    fn text(name: &'static str, len: usize, indexed: bool) -> Property<'static> {
        Property {
            indexed,
            ..property(name, Value::Bytes(vec![b'x'; len].into()))
        }
    }

    #[test]
    fn each_limit_holds_to_the_byte() {
        for (indexed, limit, part) in [
            (true, MAX_INDEXED_BYTES, "indexed property a"),
            (false, MAX_UNINDEXED_BYTES, "property a"),
        ] {
            assert_eq!(largest(vec![text("a", limit, indexed)]), None);
            let found = largest(vec![text("b", 1, indexed), text("a", limit + 1, indexed)]);
            assert_eq!(
                found,
                Some(SizeViolation {
                    part: part.to_owned(),
                    bytes: limit + 1,
                    limit
                })
            );
            let element = |len| Property {
                multiple: true,
                ..text("a", len, indexed)
            };
            assert_eq!(largest(vec![element(1), element(limit)]), None);
            assert_eq!(
                largest(vec![element(1), element(limit + 1)]).unwrap().bytes,
                limit + 1
            );
        }
        let rest = MAX_ENTITY_BYTES - MAX_UNINDEXED_BYTES - 2;
        assert_eq!(
            largest(vec![
                text("a", MAX_UNINDEXED_BYTES, false),
                text("b", rest, false)
            ]),
            None
        );
        let found = largest(vec![
            text("a", MAX_UNINDEXED_BYTES, false),
            text("b", rest + 1, false),
        ])
        .unwrap();
        assert_eq!(
            (found.part.as_str(), found.bytes),
            ("the entity", MAX_ENTITY_BYTES + 1)
        );
    }

    #[test]
    fn invalid_entity_is_left_to_the_service() {
        assert_eq!(find_oversized(b"\x1a\xff"), None);
    }
}
