//! Encodes an entity as an `EntityProto` (docs/formats.md, section 5).

use super::decode::{ENTITY_KEY, ENTITY_PROPERTY, ENTITY_RAW_PROPERTY};
use super::rewrite::KeyMapping;
use super::types::{Entity, Id, Key, PathElement, Property, User, Value};
use super::wire::{
    put_bytes, put_double, put_group, put_int, put_message, put_uint, put_unless_empty,
};

const ENTITY_GROUP: u32 = 16;

/// Appends `entity` to `out` as an `EntityProto`, its keys and references moved by `rewrite`.
///
/// Under the identity a record of the emulator comes out as it was, byte for byte. Fields that
/// [`Entity::parse`] skips are not written. A key that gets another project loses the prefix of its
/// app, since that of the new project is not known; importers take both forms.
pub fn write_entity(entity: &Entity<'_>, rewrite: &KeyMapping, out: &mut Vec<u8>) {
    if let Some(key) = &entity.key {
        put_message(out, ENTITY_KEY, |out| {
            put_partition(key, rewrite, out, |out| {
                put_message(out, 14, |out| {
                    key.path
                        .iter()
                        .for_each(|element| put_element(element, out))
                })
            });
        });
    }
    for indexed in [true, false] {
        for property in entity
            .properties
            .iter()
            .filter(|property| property.indexed == indexed)
        {
            put_message(
                out,
                if indexed {
                    ENTITY_PROPERTY
                } else {
                    ENTITY_RAW_PROPERTY
                },
                |out| put_property(property, rewrite, out),
            );
        }
    }
    // An incomplete root is in no group yet.
    let root = entity
        .key
        .as_ref()
        .and_then(|key| key.path.first())
        .filter(|element| element.is_complete());
    put_message(out, ENTITY_GROUP, |out| {
        root.into_iter()
            .for_each(|element| put_element(element, out))
    });
}

fn put_partition(
    key: &Key<'_>,
    rewrite: &KeyMapping,
    out: &mut Vec<u8>,
    path: impl FnOnce(&mut Vec<u8>),
) {
    let (project, namespace, database) = rewrite.partition(key);
    put_bytes(
        out,
        13,
        if project == key.project() {
            key.app
        } else {
            project
        }
        .as_bytes(),
    );
    path(out);
    put_unless_empty(out, 20, namespace);
    put_unless_empty(out, 23, database);
}

fn put_element(element: &PathElement<'_>, out: &mut Vec<u8>) {
    put_group(out, 1, |out| put_step(element, [2, 3, 4], out));
}

fn put_step(element: &PathElement<'_>, [kind, id, name]: [u32; 3], out: &mut Vec<u8>) {
    put_bytes(out, kind, element.kind.as_bytes());
    match element.id {
        Id::None => {}
        Id::Number(number) => put_int(out, id, number),
        Id::Name(text) => put_bytes(out, name, text.as_bytes()),
    }
}

fn put_property(property: &Property<'_>, rewrite: &KeyMapping, out: &mut Vec<u8>) {
    if property.meaning != 0 {
        put_uint(out, 1, property.meaning);
    }
    put_unless_empty(out, 2, property.meaning_uri);
    put_bytes(out, 3, property.name.as_bytes());
    put_uint(out, 4, u64::from(property.multiple));
    put_message(out, 5, |out| match &property.value {
        Value::Null => {}
        Value::Boolean(boolean) => put_uint(out, 2, u64::from(*boolean)),
        Value::Integer(integer) => put_int(out, 1, *integer),
        Value::Double(double) => put_double(out, 4, *double),
        Value::Bytes(bytes) => put_bytes(out, 3, bytes),
        Value::Entity(entity) => put_message(out, 3, |out| write_entity(entity, rewrite, out)),
        Value::Point { x, y } => put_group(out, 5, |out| {
            put_double(out, 6, *x);
            put_double(out, 7, *y);
        }),
        Value::Reference(key) => put_group(out, 12, |out| {
            let path = |out: &mut Vec<u8>| {
                key.path.iter().for_each(|element| {
                    put_group(out, 14, |out| put_step(element, [15, 16, 17], out))
                })
            };
            put_partition(key, rewrite, out, path);
        }),
        Value::User(user) => put_group(out, 8, |out| put_user(user, out)),
    });
}

fn put_user(user: &User<'_>, out: &mut Vec<u8>) {
    put_text(out, 9, user.email);
    put_text(out, 10, user.auth_domain);
    put_text(out, 11, user.nickname);
    if let Some(gaiaid) = user.gaiaid {
        put_int(out, 18, gaiaid);
    }
    put_text(out, 19, user.obfuscated_gaiaid);
    put_text(out, 21, user.federated_identity);
    put_text(out, 22, user.federated_provider);
}

fn put_text(out: &mut Vec<u8>, field: u32, text: Option<&str>) {
    if let Some(text) = text {
        put_bytes(out, field, text.as_bytes());
    }
}
