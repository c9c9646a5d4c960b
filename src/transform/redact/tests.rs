//! Rules on made-up entities: what each action makes of each type, what paths reach, and that
//! nothing else changes.

use std::borrow::Cow;
use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::entity::testing::{any_entity, embedded, key, property, record_of, to_json};
use crate::entity::{
    Entity, Id, Key, KeyMapping, PathElement, Property, User, Value, encode, json, message,
};
use crate::model::Kind;

fn secret() -> RedactKey {
    RedactKey::from_secret(b"of the tests")
}

fn rules(texts: &[&str]) -> Vec<RedactRule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn redactor(texts: &[&str], kinds: &[&str]) -> Result<Redactor, RedactError> {
    let kinds: Vec<Kind> = kinds.iter().map(|kind| Kind::new(*kind)).collect();
    Redactor::new(&rules(texts), &kinds, Some(&secret()))
}

/// The properties of a `Customer`, redacted, as JSON.
fn redacted(texts: &[&str], properties: Vec<Property<'_>>) -> Json {
    let entity = Entity {
        key: Some(key("src", "", "Customer", Id::Number(1))),
        properties,
    };
    let redactor = redactor(texts, &["Customer", "Order"]).unwrap();
    redactor.redact(entity, "src", |entity| {
        to_json(entity, &KeyMapping::identity())
    })["properties"]
        .take()
}

fn text(text: &str) -> Value<'_> {
    Value::Bytes(Cow::Borrowed(text.as_bytes()))
}

fn raw<'a>(name: &'a str, meaning: u64, value: Value<'a>) -> Property<'a> {
    Property {
        indexed: false,
        meaning,
        ..property(name, value)
    }
}

fn with(properties: Vec<Property<'_>>) -> Entity<'_> {
    Entity {
        key: None,
        properties,
    }
}

#[test]
fn misspelt_rule_finds_its_nearest_property() {
    let nearest = |rule: &str, siblings: &[&str]| {
        let rule: RedactRule = rule.parse().unwrap();
        (
            rule.for_siblings().unwrap().to_string(),
            rule.nearest(siblings.iter().copied()),
        )
    };
    let customer = ["Customer.name", "Customer.email"];
    assert_eq!(
        nearest("Customer.emial=mask", &customer),
        (
            "?Customer.*=drop".to_owned(),
            Some("Customer.email".to_owned())
        )
    );
    assert_eq!(
        nearest(r"a\.b.c.stret=mask", &[r"a\.b.c.street"]),
        (
            r"?a\.b.c.*=drop".to_owned(),
            Some(r"a\.b.c.street".to_owned())
        )
    );
    assert_eq!(nearest("Customer.x=mask", &customer).1, None);
}

#[test]
fn a_rule_says_kind_path_and_action() {
    for good in [
        "Customer.mail=hash",
        "a.b.c=drop",
        "*.*=mask",
        r"a\.b.c\*=null",
        "K.a=b=fake",
        "K.__key__=hash",
    ] {
        assert_eq!(good.parse::<RedactRule>().unwrap().to_string(), good);
    }
    for (wrong, fault) in [
        ("Customer.mail", "has no `=`"),
        ("Customer.mail=shred", "has an unknown action \"shred\""),
        ("Customer=hash", "has no `.` between kind and property"),
        (
            r"Customer\.mail=hash",
            "has no `.` between kind and property",
        ),
        (".mail=hash", "names no kind"),
        ("Customer.=hash", "names no property"),
        (r"K.\a=hash", r"holds `\a`, which means nothing"),
        ("K.a\\=hash", "ends with a single backslash"),
    ] {
        let error = wrong.parse::<RedactRule>().unwrap_err().to_string();
        assert_eq!(
            error,
            format!("--redact {wrong:?} {fault}: write KIND.property=drop|null|hash|mask|fake")
        );
    }
    assert!(
        rules(&["K.a=hash", "K.a=fake"])
            .iter()
            .all(RedactRule::needs_key)
    );
    assert!(
        !rules(&["K.a=drop", "K.a=null", "K.a=mask"])
            .iter()
            .any(RedactRule::needs_key)
    );
}

#[test]
fn the_longest_kind_of_the_archive_divides() {
    let named = |rule: &str, kinds: &[&str], kind: &str, name: &str| -> bool {
        let kinds: Vec<Kind> = kinds.iter().map(|kind| Kind::new(*kind)).collect();
        let rules = RuleSet::new(&rules(&[rule]), &kinds).unwrap();
        let entity = with(vec![
            property(name, Value::Null),
            embedded("in", with(vec![property(name, Value::Null)])),
        ]);
        let mut found = false;
        rules.each_property(&Kind::new(kind), &entity, &mut |_, _| found = true);
        found
    };
    assert!(named("a.b.c=null", &["a", "a.b"], "a.b", "c"));
    assert!(!named("a.b.c=null", &["a", "a.b"], "a", "b.c"));
    assert!(named("a.b.c=null", &["a"], "a", "b.c"));
    assert!(named(r"a\.b.c=null", &["a", "a.b"], "a.b", "c"));
    // With a wildcard each kind takes the longest part that it fits, so that none is passed over
    // for another's sake.
    assert!(named(
        "*.in.x=null",
        &["a", "billing.in"],
        "billing.in",
        "x"
    ));
    assert!(named("*.in.x=null", &["a", "billing.in"], "a", "x"));
    assert!(!named("A*.x=null", &["Aa", "Ba"], "Ba", "x"));
}

#[test]
fn impossible_rules_are_refused_by_name() {
    let refused = |rule: &str| redactor(&[rule], &["Customer", "Order"]).unwrap_err();
    assert!(
        matches!(refused("Custommer.mail=null"), RedactError::NoKind { rule, nearest } if rule == "Custommer.mail=null" && nearest.as_deref() == Some("Customer.mail=null"))
    );
    assert!(matches!(
        refused("Custommer.__key__=hash"),
        RedactError::NoKind { .. }
    ));
    assert!(matches!(
        refused("Customer.__key__=null"),
        RedactError::KeyAction { .. }
    ));
    assert!(matches!(
        refused("Customer.home.__key__=hash"),
        RedactError::KeyPlace { .. }
    ));
    let kinds = [Kind::new("K")];
    assert!(
        matches!(Redactor::new(&rules(&["K.a=null", "K.b=fake"]), &kinds, None), Err(RedactError::NoKey { rule }) if rule == "K.b=fake")
    );
    assert!(Redactor::new(&rules(&["K.a=mask"]), &kinds, None).is_ok());
}

#[test]
fn each_action_handles_each_type() {
    let hashed = |value: &[u8]| json!({"stringValue": secret().text(value)});
    let integer = secret().integer(42).to_string();
    let null = || json!({"nullValue": null});
    let table: Vec<(Property<'_>, Json, Json)> = vec![
        (
            property("p", text("Zoë!")),
            json!({"stringValue": "****"}),
            hashed("Zoë!".as_bytes()),
        ),
        (
            property("p", text("")),
            json!({"stringValue": ""}),
            hashed(b""),
        ),
        (
            raw("p", 15, text("long text")),
            json!({"stringValue": "*********", "meaning": 15, "excludeFromIndexes": true}),
            json!({"stringValue": secret().text(b"long text"), "meaning": 15, "excludeFromIndexes": true}),
        ),
        (
            raw("p", 14, text("blob")),
            json!({"nullValue": null, "excludeFromIndexes": true}),
            json!({"stringValue": secret().text(b"blob"), "excludeFromIndexes": true}),
        ),
        (
            property("p", Value::Bytes(Cow::Borrowed(b"\xff"))),
            null(),
            hashed(b"\xff"),
        ),
        (
            Property {
                meaning_uri: "ZLIB",
                ..property("p", text("packed"))
            },
            null(),
            hashed(b"packed"),
        ),
        (
            property("p", Value::Integer(42)),
            null(),
            json!({"integerValue": integer}),
        ),
        (
            Property {
                meaning: 13,
                ..property("p", Value::Integer(42))
            },
            null(),
            json!({"integerValue": integer}),
        ),
        (
            Property {
                meaning: 7,
                ..property("p", Value::Integer(42))
            },
            null(),
            null(),
        ),
        (
            Property {
                meaning: 7,
                ..property("p", Value::Integer(i64::MAX))
            },
            null(),
            null(),
        ),
        (property("p", Value::Double(0.5)), null(), null()),
        (property("p", Value::Boolean(true)), null(), null()),
        (
            property("p", Value::Point { x: 1.0, y: 2.0 }),
            null(),
            null(),
        ),
        (
            property(
                "p",
                Value::Reference(key("src", "", "Order", Id::Name("n"))),
            ),
            null(),
            null(),
        ),
        (
            property(
                "p",
                Value::User(Box::new(User {
                    email: Some("u@x"),
                    ..User::default()
                })),
            ),
            null(),
            null(),
        ),
        (
            embedded("p", with(vec![property("q", text("deep"))])),
            null(),
            null(),
        ),
        (
            Property {
                meaning: 24,
                ..property("p", Value::Null)
            },
            json!({"arrayValue": {}}),
            json!({"arrayValue": {}}),
        ),
    ];
    for (property, masked, hashed) in table {
        let of = |rule: &str| redacted(&[rule], vec![property.clone()])["p"].take();
        assert_eq!(of("Customer.p=mask"), masked, "{property:?}");
        assert_eq!(of("Customer.p=hash"), hashed, "{property:?}");
        assert_eq!(of("Customer.p=drop"), Json::Null, "{property:?}");
        if property.meaning != 24 {
            let excluded = if property.indexed {
                null()
            } else {
                json!({"nullValue": null, "excludeFromIndexes": true})
            };
            assert_eq!(of("Customer.p=null"), excluded, "{property:?}");
            let faked = of("Customer.p=fake");
            assert_eq!(
                faked.get("stringValue").is_some(),
                masked.get("stringValue").is_some(),
                "{property:?}"
            );
        }
    }
}

#[test]
fn paths_reach_arrays_and_embedded_entities() {
    let element = |value| Property {
        multiple: true,
        ..property("tags", value)
    };
    let home = || {
        with(vec![
            property("city", text("Ulm")),
            property("zip", text("89")),
        ])
    };
    let properties = || {
        vec![
            element(text("ab")),
            element(Value::Integer(1)),
            embedded("home", home()),
            property("home.city", text("flat")),
            Property {
                multiple: true,
                ..embedded("many", with(vec![embedded("home", home())]))
            },
        ]
    };
    let all = redacted(&["Order.x=null"], properties());
    let changed = |rule: &str| -> BTreeSet<String> {
        fn differences(path: &str, before: &Json, after: &Json, found: &mut BTreeSet<String>) {
            match (before, after) {
                (Json::Object(before), Json::Object(after)) if before.keys().eq(after.keys()) => {
                    before.iter().for_each(|(name, value)| {
                        differences(&format!("{path}/{name}"), value, &after[name], found)
                    });
                }
                (Json::Array(before), Json::Array(after)) if before.len() == after.len() => {
                    before
                        .iter()
                        .zip(after)
                        .for_each(|(before, after)| differences(path, before, after, found));
                }
                _ if before == after => {}
                _ => drop(
                    found.insert(
                        path.replace("/entityValue/properties", "")
                            .replace("/arrayValue/values", ""),
                    ),
                ),
            }
        }
        let mut found = BTreeSet::new();
        differences("", &all, &redacted(&[rule], properties()), &mut found);
        found
    };
    let of = |paths: &[&str]| {
        paths
            .iter()
            .map(|path| path.to_string())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        changed("Customer.home.city=null"),
        of(&["/home/city", "/home.city"])
    );
    assert_eq!(changed(r"Customer.home\.city=null"), of(&["/home.city"]));
    assert_eq!(
        changed("Customer.*.home.city=null"),
        of(&["/many/home/city"])
    );
    assert_eq!(changed("Customer.tags=null"), of(&["/tags"]));
    assert_eq!(changed("*.h*=null"), of(&["/home", "/home.city"]));
    assert_eq!(
        changed("C*.*=null"),
        of(&["/tags", "/home", "/home.city", "/many"])
    );
    assert_eq!(changed("Customer.city=null"), of(&[]));
    let masked = redacted(&["Customer.tags=mask"], properties());
    assert_eq!(
        masked["tags"],
        json!({"arrayValue": {"values": [{"stringValue": "**"}, {"nullValue": null}]}})
    );
    assert_eq!(
        redacted(&["Customer.tags=drop"], properties()).get("tags"),
        None
    );
}

#[test]
fn last_matching_rule_wins() {
    let of = |rules: &[&str]| {
        redacted(
            rules,
            vec![
                property("a", text("x")),
                embedded("e", with(vec![property("b", text("y"))])),
            ],
        )
    };
    assert_eq!(
        of(&["Customer.*=null", "Customer.a=mask"])["a"],
        json!({"stringValue": "*"})
    );
    assert_eq!(
        of(&["Customer.a=mask", "Customer.*=null"])["a"],
        json!({"nullValue": null})
    );
    assert_eq!(
        of(&["Customer.*=null", "Customer.e.b=mask"])["e"],
        json!({"nullValue": null})
    );
    assert_eq!(
        of(&["Customer.e.b=null", "*.e.b=mask"])["e"],
        json!({"entityValue": {"properties": {"b": {"stringValue": "*"}}}})
    );
}

#[test]
fn unopenable_value_is_null_as_a_whole() {
    let user = || {
        property(
            "owner",
            Value::User(Box::new(User {
                email: Some("u@x"),
                ..User::default()
            })),
        )
    };
    let packed = || Property {
        meaning: 19,
        meaning_uri: "ZLIB",
        ..property("owner", text("x\u{1}"))
    };
    for rule in [
        "Customer.owner.email=mask",
        "Customer.owner.nickname=drop",
        "*.*.e*=hash",
    ] {
        assert_eq!(
            redacted(&[rule], vec![user()])["owner"],
            json!({"nullValue": null}),
            "{rule}"
        );
    }
    assert_eq!(
        redacted(&["Customer.owner.street=mask"], vec![packed()])["owner"],
        json!({"nullValue": null})
    );
    let untouched = redacted(
        &["Customer.owner.street=mask"],
        vec![user(), property("x", text("y"))],
    );
    assert!(untouched["owner"].get("entityValue").is_some());
    // Text has no parts.
    assert_eq!(
        redacted(&["Customer.x.y=mask"], vec![property("x", text("y"))])["x"],
        json!({"stringValue": "y"})
    );
}

#[test]
fn hashed_keys_still_meet_their_references() {
    let customer = |app| PathElement {
        kind: "Customer",
        id: Id::Name(app),
    };
    let path = vec![
        PathElement {
            kind: "Account",
            id: Id::Number(5),
        },
        customer("anna@x"),
    ];
    let of = |app, path| Key {
        app,
        namespace: "ns",
        database: "",
        path,
    };
    let redactor = redactor(&["Customer.__key__=hash"], &["Customer", "Order"]).unwrap();
    assert!(redactor.rewrites_keys() && redactor.applies_to(&Kind::new("Order")));
    let json = |entity| {
        redactor.redact(entity, "src", |entity| {
            to_json(entity, &KeyMapping::identity())
        })
    };
    let own = json(Entity {
        key: Some(of("s~src", path.clone())),
        properties: Vec::new(),
    });
    let name = secret().text(b"anna@x");
    assert_eq!(
        own["key"]["path"],
        json!([{"kind": "Account", "id": "5"}, {"kind": "Customer", "name": name}])
    );
    let longer = [
        path.clone(),
        vec![PathElement {
            kind: "Order",
            id: Id::Name("anna@x"),
        }],
    ]
    .concat();
    let inner = Entity {
        key: Some(of("src", path.clone())),
        properties: vec![property("r", Value::Reference(of("src", path.clone())))],
    };
    let keyless = Entity {
        key: Some(of("", path.clone())),
        properties: Vec::new(),
    };
    let order = Entity {
        key: Some(of("s~src", longer)),
        properties: vec![
            property("r", Value::Reference(of("e~src", path.clone()))),
            property("third", Value::Reference(of("third", path.clone()))),
            property("mail", text("anna@x")),
            embedded("e", inner),
            embedded("keyless", keyless),
        ],
    };
    let found = json(order.clone());
    assert_eq!(
        found["properties"]["r"]["keyValue"]["path"],
        own["key"]["path"]
    );
    assert_eq!(
        found["properties"]["e"]["entityValue"]["key"]["path"],
        own["key"]["path"]
    );
    assert_eq!(
        found["properties"]["e"]["entityValue"]["properties"]["r"]["keyValue"]["path"],
        own["key"]["path"]
    );
    assert_eq!(
        found["properties"]["third"]["keyValue"]["path"][1]["name"],
        "anna@x"
    );
    assert_eq!(found["properties"]["mail"]["stringValue"], "anna@x");
    assert_eq!(
        (
            &found["key"]["path"][1]["name"],
            &found["key"]["path"][2]["name"]
        ),
        (&json!(name), &json!("anna@x"))
    );
    // A key without a project is written to exports only, but it is written.
    let record = redactor.redact(order, "src", record_of);
    assert_eq!(
        Entity::parse(&record).unwrap().properties[4].value,
        Value::Entity(Box::new(Entity {
            key: Some(of("", vec![path[0], customer(&name)])),
            properties: Vec::new()
        }))
    );
}

#[test]
fn ids_hash_to_integers_and_names_to_text() {
    let redactor = redactor(
        &["*.__key__=hash", "Order.customer=hash"],
        &["Customer", "Order"],
    )
    .unwrap();
    let entity = |kind, id, customer| Entity {
        key: Some(key("src", "", kind, id)),
        properties: vec![property("customer", customer)],
    };
    let json = |entity| {
        redactor.redact(entity, "src", |entity| {
            to_json(entity, &KeyMapping::identity())
        })
    };
    let customer = json(entity("Customer", Id::Number(-7), Value::Null));
    assert_eq!(
        customer["key"]["path"][0]["id"],
        json(entity("Order", Id::Name("x"), Value::Integer(-7)))["properties"]["customer"]["integerValue"]
    );
    let customer = json(entity("Customer", Id::Name("anna@x"), Value::Null));
    assert_eq!(
        customer["key"]["path"][0]["name"],
        json(entity("Order", Id::Number(1), text("anna@x")))["properties"]["customer"]["stringValue"]
    );
    let unknown = json(entity(
        "Elsewhere",
        Id::None,
        Value::Reference(key("src", "", "Elsewhere", Id::Number(0))),
    ));
    assert_eq!(unknown["key"]["path"], json!([{"kind": "Elsewhere"}]));
    assert_eq!(
        unknown["properties"]["customer"]["keyValue"]["path"][0]["id"],
        "0"
    );
}

#[test]
fn listed_names_work_as_rules() {
    let kind = Kind::new("a.b");
    let rules = RuleSet::new(
        &rules(&[
            "*.*=null",
            r"*.e.x\*y=null",
            "a.b.nothing=null",
            "*.u.email=null",
            "*.__key__=hash",
        ]),
        [&kind],
    )
    .unwrap();
    let user = property("u", Value::User(Box::default()));
    let entity = with(vec![
        embedded("e", with(vec![property("x*y", Value::Null)])),
        property("f.g", Value::Null),
        user,
    ]);
    let mut found = BTreeSet::new();
    rules.each_property(&kind, &entity, &mut |rule, name| {
        found.insert((rule, name.to_owned()));
    });
    rules.for_each_key([&kind], |rule, name| {
        found.insert((rule, name));
    });
    let expected = [
        (0, r"a\.b.e"),
        (0, r"a\.b.f\.g"),
        (0, r"a\.b.u"),
        (1, r"a\.b.e.x\*y"),
        (3, r"a\.b.u"),
        (4, r"a\.b.__key__"),
    ];
    assert_eq!(
        found,
        expected.map(|(rule, name)| (rule, name.to_owned())).into()
    );
}

const ACTIONS: [&str; 5] = ["drop", "null", "hash", "mask", "fake"];

/// What no name of a property and no kind holds.
const SECRET: &str = "SECRET-of-somebody";

/// Puts a secret wherever a value has room for text.
fn keep_secrets(entity: &mut Entity<'static>) {
    for property in &mut entity.properties {
        match &mut property.value {
            Value::Bytes(bytes) => *bytes = Cow::Borrowed(SECRET.as_bytes()),
            Value::User(user) => {
                **user = User {
                    email: Some(SECRET),
                    nickname: Some(SECRET),
                    obfuscated_gaiaid: Some(SECRET),
                    ..User::default()
                }
            }
            Value::Reference(key) => key.path.push(PathElement {
                kind: "Order",
                id: Id::Name(SECRET),
            }),
            Value::Entity(entity) => keep_secrets(entity),
            _ => {}
        }
    }
}

/// All three forms, one behind the other.
fn forms(entity: &Entity<'_>) -> Vec<u8> {
    let rewrite = KeyMapping {
        from_project: "src".to_owned(),
        ..KeyMapping::default()
    };
    let mut out = Vec::new();
    json::write_entity(entity, &rewrite, &mut out);
    message::write_entity(entity, &rewrite, &mut out);
    encode::write_entity(entity, &rewrite, &mut out);
    out
}

fn tells_the_secret(forms: &[u8]) -> bool {
    // As it begins in JSON, if it is a blob there.
    let base64 = STANDARD.encode(&SECRET[..15]);
    [SECRET, &base64].iter().any(|needle| {
        forms
            .windows(needle.len())
            .any(|window| window == needle.as_bytes())
    })
}

fn customer(entity: Entity<'static>) -> Entity<'static> {
    Entity {
        key: Some(key("src", "", "Customer", Id::Number(1))),
        ..entity
    }
}

/// What `null` must make of an entity, said another way: by names from the top, of which none holds
/// a dot.
fn by_the_book<'a>(entity: Entity<'a>, path: &[&str]) -> Entity<'a> {
    let Some((first, rest)) = path.split_first() else {
        return entity;
    };
    let mut entity = entity;
    for property in entity
        .properties
        .iter_mut()
        .filter(|property| *first == "*" || property.name == *first)
    {
        let value = std::mem::replace(&mut property.value, Value::Null);
        match value {
            _ if property.meaning == 24 && rest.is_empty() => property.meaning_uri = "",
            _ if rest.is_empty() => (property.meaning, property.meaning_uri) = (0, ""),
            Value::Entity(inner) => {
                property.value = Value::Entity(Box::new(by_the_book(*inner, rest)))
            }
            Value::User(_) if rest == ["*"] => (property.meaning, property.meaning_uri) = (0, ""),
            value => property.value = value,
        }
    }
    entity
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn redacted_property_leaves_no_trace(entity in any_entity(), action in prop::sample::select(&ACTIONS[..])) {
        let mut entity = customer(entity);
        keep_secrets(&mut entity);
        let redactor = redactor(&[&format!("Customer.*={action}")], &["Customer"]).unwrap();
        let forms = redactor.redact(entity, "src", forms);
        prop_assert!(!tells_the_secret(&forms));
    }

    #[test]
    fn redacted_key_name_leaves_no_trace(entity in any_entity()) {
        let mut entity = customer(entity);
        keep_secrets(&mut entity);
        fn only_keys(entity: &mut Entity<'_>) {
            entity.properties.retain_mut(|property| match &mut property.value {
                Value::Reference(key) => key.project() != "third",
                Value::Entity(entity) => { only_keys(entity); true }
                _ => false,
            });
        }
        only_keys(&mut entity);
        // The root of a key stands once more in the entity's group.
        let root = PathElement { kind: "Order", id: Id::Name(SECRET) };
        entity.key.iter_mut().for_each(|key| key.path.insert(0, root));
        let redactor = redactor(&["Order.__key__=hash"], &["Customer", "Order"]).unwrap();
        let forms = redactor.redact(entity, "src", forms);
        prop_assert!(!tells_the_secret(&forms));
    }

    #[test]
    fn path_changes_only_what_it_names(
        entity in any_entity(),
        path in prop::collection::vec(prop::sample::select(vec!["a", "b", "tags", "*", "Größe"]), 1..4),
    ) {
        let entity = customer(entity);
        let rule = format!("Customer.{}=null", path.join("."));
        let found = redactor(&[&rule], &["Customer"]).unwrap().redact(entity.clone(), "src", record_of);
        prop_assert_eq!(found, record_of(&by_the_book(entity, &path)));
    }

    #[test]
    fn redaction_is_deterministic(entity in any_entity(), action in prop::sample::select(&ACTIONS[..])) {
        let entity = customer(entity);
        let of = || redactor(&[&format!("*.*={action}"), "*.__key__=hash"], &["Customer"]).unwrap().redact(entity.clone(), "src", forms);
        prop_assert_eq!(of(), of());
    }

    #[test]
    fn no_text_makes_the_reader_of_rules_panic(left in "[a-c.*\\\\=]{0,9}", action in prop::sample::select(&ACTIONS[..]), entity in any_entity()) {
        let text = format!("{left}={action}");
        if let Ok(rule) = text.parse::<RedactRule>() {
            prop_assert_eq!(rule.to_string(), text);
            if let Ok(redactor) = Redactor::new(&[rule], &[Kind::new("a"), Kind::new("a.b"), Kind::new("Customer")], Some(&secret())) {
                redactor.redact(customer(entity), "src", forms);
            }
        }
    }
}
