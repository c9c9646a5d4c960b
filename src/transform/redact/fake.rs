//! Plausible values in the place of real ones, always the same one for the same value and key.
//!
//! Knows what meanings, forms of values and names of properties say. Whatever it makes reaches
//! nobody: mails, links, phone numbers and network addresses are of those that are reserved for
//! examples.

use fake::Fake as _;
use fake::RngExt as _;
use fake::faker::address::en::{CityName, CountryName, StreetName, ZipCode};
use fake::faker::company::en::CompanyName;
use fake::faker::lorem::en::Words;
use fake::faker::name::en::{FirstName, LastName, Name};
use fake::rand::SeedableRng as _;
use fake::rand::rngs::ChaCha8Rng;

use super::form::{TextForm, form};
use super::key::RedactKey;
use crate::entity::Property;

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FakeKind {
    /// Of the form that its characters have.
    Formed(TextForm),
    Mail,
    FirstName,
    LastName,
    Phone,
    Address,
    City,
    Postcode,
    Country,
    Company,
    Login,
    Link,
    Name,
    /// A name of the store's own, such as a blob key.
    Token,
    Prose,
}

/// What words in a property's name say; the first row that fits counts.
const NAMES: [(FakeKind, &[&str]); 12] = [
    (FakeKind::Mail, &["mail"]),
    (
        FakeKind::FirstName,
        &["firstname", "first", "givenname", "given", "forename"],
    ),
    (
        FakeKind::LastName,
        &["lastname", "last", "surname", "familyname", "family"],
    ),
    (FakeKind::Phone, &["phone", "mobile", "tel", "fax", "cell"]),
    (
        FakeKind::Company,
        &[
            "company",
            "organisation",
            "organization",
            "firm",
            "employer",
        ],
    ),
    (FakeKind::Postcode, &["postcode", "postal", "zip", "plz"]),
    (FakeKind::City, &["city", "town"]),
    (FakeKind::Country, &["country"]),
    (FakeKind::Address, &["street", "address", "addr"]),
    (
        FakeKind::Link,
        &["link", "website", "homepage", "url", "uri"],
    ),
    (
        FakeKind::Login,
        &["username", "login", "user", "nick", "handle"],
    ),
    (FakeKind::Name, &["name"]),
];

/// A word of a name that is at least as long counts as part of a longer one, too.
const COMPOUND_LEN: usize = 4;

/// More words than a name has.
const PROSE_WORDS: usize = 5;

/// As long as an indexed text may be, with some room.
const MAX_PROSE_WORDS: usize = 100;

/// How often something else is made where what came out holds the value itself.
const TRIES: u32 = 16;

/// A made-up text for the text `value` of a property.
pub(super) fn text(key: &RedactKey, property: &Property<'_>, value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    let sort = classify(property.meaning, property.name, value);
    let mut seed = key.mac(value.as_bytes());
    for _ in 0..TRIES {
        let made = generate(sort, value, ChaCha8Rng::from_seed(seed));
        if !shows(&made, value) {
            return made;
        }
        seed = key.mac(&seed);
    }
    key.text(value.as_bytes())
}

/// Whether a made-up text still shows the value; very short ones occur in everything.
fn shows(made: &str, value: &str) -> bool {
    let (made, value) = (made.to_lowercase(), value.to_lowercase());
    made == value || (value.chars().count() > 2 && made.contains(&value))
}

/// What a text is: by the meaning that it is stored with, then by its own form, then by the
/// property's name.
fn classify(meaning: u64, name: &str, value: &str) -> FakeKind {
    // docs/formats.md, section 5.
    match meaning {
        2 => return FakeKind::Link,
        8 => return FakeKind::Mail,
        10 => return FakeKind::Login,
        11 => return FakeKind::Phone,
        12 => return FakeKind::Address,
        17 => return FakeKind::Token,
        _ => {}
    }
    let form = form(value);
    match form {
        Some(TextForm::Mail) => return FakeKind::Mail,
        Some(TextForm::Link) => return FakeKind::Link,
        Some(TextForm::Phone) => return FakeKind::Phone,
        Some(TextForm::Address) => return FakeKind::Address,
        Some(form) if form != TextForm::Code => return FakeKind::Formed(form),
        _ => {}
    }
    let names = words_of(name);
    let fits = |needle: &&'static str| {
        names
            .iter()
            .any(|word| word == needle || (needle.len() >= COMPOUND_LEN && word.contains(needle)))
    };
    match NAMES.iter().find(|(_, needles)| needles.iter().any(fits)) {
        Some((sort, _)) => *sort,
        None => match form {
            Some(form) => FakeKind::Formed(form),
            None if value.split_whitespace().count() >= PROSE_WORDS => FakeKind::Prose,
            None => FakeKind::Name,
        },
    }
}

/// `billingFirstName`, `billing_first_name`: billing, first, name.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
    }
    words
}

fn generate(sort: FakeKind, value: &str, mut random: ChaCha8Rng) -> String {
    let random = &mut random;
    match sort {
        FakeKind::Mail => {
            let count = value
                .split([',', ';', ' '])
                .filter(|part| part.contains('@'))
                .count()
                .clamp(1, MAX_PROSE_WORDS);
            (0..count)
                .map(|_| mail(random))
                .collect::<Vec<_>>()
                .join(", ")
        }
        FakeKind::Login => {
            let first: String = FirstName().fake_with_rng(random);
            let sign = if value.starts_with('@') { "@" } else { "" };
            format!(
                "{sign}{}.{:08x}",
                ascii_lower(&first),
                random.random::<u32>()
            )
        }
        FakeKind::Phone => phone(random),
        FakeKind::Link => link(value, random),
        FakeKind::Address => address(value, random),
        FakeKind::FirstName => FirstName().fake_with_rng(random),
        FakeKind::LastName => LastName().fake_with_rng(random),
        FakeKind::City => CityName().fake_with_rng(random),
        FakeKind::Postcode => ZipCode().fake_with_rng(random),
        FakeKind::Country => CountryName().fake_with_rng(random),
        FakeKind::Company => CompanyName().fake_with_rng(random),
        FakeKind::Name => Name().fake_with_rng(random),
        FakeKind::Token => format!("{:032x}", random.random::<u128>()),
        FakeKind::Prose => {
            let words = value.split_whitespace().count().min(MAX_PROSE_WORDS);
            Words(words..words + 1)
                .fake_with_rng::<Vec<String>, _>(random)
                .join(" ")
        }
        FakeKind::Formed(TextForm::Date) => date(value, random),
        // Of the ranges for documentation: RFC 5737 and RFC 3849.
        FakeKind::Formed(TextForm::Ip) if value.contains(':') => {
            format!("2001:db8::{:x}", random.random_range(1..0xffff))
        }
        FakeKind::Formed(TextForm::Ip) => format!("192.0.2.{}", random.random_range(1..255)),
        FakeKind::Formed(_) => same_shape(value, random),
    }
}

fn mail(random: &mut ChaCha8Rng) -> String {
    let (first, last): (String, String) = (
        FirstName().fake_with_rng(random),
        LastName().fake_with_rng(random),
    );
    // The digits keep the mails of different people different.
    format!(
        "{}.{}.{:08x}@example.com",
        ascii_lower(&first),
        ascii_lower(&last),
        random.random::<u32>()
    )
}

fn phone(random: &mut ChaCha8Rng) -> String {
    format!(
        "+1-{}-555-01{:02}",
        random.random_range(200..990),
        random.random_range(0..100)
    )
}

/// A link by the same scheme. Of schemes that are not known to name a host, a link by `https`.
fn link(value: &str, random: &mut ChaCha8Rng) -> String {
    let scheme = value
        .split_once(':')
        .map_or("", |(scheme, _)| scheme)
        .to_ascii_lowercase();
    match scheme.as_str() {
        "mailto" => format!("mailto:{}", mail(random)),
        "tel" | "sms" | "callto" => format!("{scheme}:{}", phone(random)),
        "http" | "ftp" | "ftps" | "ws" | "wss" | "gs" | "s3" => {
            format!("{scheme}://example.com/{:08x}", random.random::<u32>())
        }
        _ if value.to_ascii_lowercase().starts_with("www.") => {
            format!("www.example.com/{:08x}", random.random::<u32>())
        }
        _ => format!("https://example.com/{:08x}", random.random::<u32>()),
    }
}

/// A street with a number; with a place behind it where the value has several parts.
fn address(value: &str, random: &mut ChaCha8Rng) -> String {
    let street = format!(
        "{} {}",
        random.random_range(1..300),
        StreetName().fake_with_rng::<String, _>(random)
    );
    let separator = if value.contains('\n') {
        "\n"
    } else if value.contains(',') {
        ", "
    } else {
        return street;
    };
    let (zip, city): (String, String) = (
        ZipCode().fake_with_rng(random),
        CityName().fake_with_rng(random),
    );
    format!("{street}{separator}{zip} {city}")
}

/// A date that exists, with the same separators; the time of day is midnight.
fn date(value: &str, random: &mut ChaCha8Rng) -> String {
    let year = random.random_range(1950..2005).to_string();
    let mut small = || format!("{:02}", random.random_range(1..13));
    let mut made = String::new();
    let mut parts = 0;
    for run in value
        .chars()
        .collect::<Vec<_>>()
        .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
    {
        let is_number = run.first().is_some_and(char::is_ascii_digit);
        match (is_number, run.len(), parts) {
            (false, ..) => made.extend(run),
            (true, 4, 0..3) => made.push_str(&year),
            (true, _, 0..3) => made.push_str(&small()),
            (true, len, _) => made.push_str(&"0".repeat(len)),
        }
        parts += usize::from(is_number);
    }
    made
}

/// Other letters and digits in the same places.
fn same_shape(value: &str, random: &mut ChaCha8Rng) -> String {
    let is_hex = form(value) == Some(TextForm::Uuid);
    let mut other = |c: char| match c {
        _ if is_hex && c.is_ascii_hexdigit() => {
            char::from_digit(random.random_range(0..16), 16).unwrap_or('0')
        }
        '0'..='9' => char::from(b'0' + random.random_range(0..10)),
        'A'..='Z' => char::from(b'A' + random.random_range(0..26)),
        c if c.is_alphanumeric() => char::from(b'a' + random.random_range(0..26)),
        c => c,
    };
    value.chars().map(&mut other).collect()
}

fn ascii_lower(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entity::Value;
    use crate::entity::testing::property;

    fn faked(key: &RedactKey, meaning: u64, name: &str, value: &str) -> String {
        text(
            key,
            &Property {
                meaning,
                ..property(name, Value::Null)
            },
            value,
        )
    }

    #[test]
    fn meaning_form_and_name_say_what_is_made() {
        for (meaning, name, value, expected) in [
            (0, "anything", "anna@shop.example", FakeKind::Mail),
            (0, "eMail", "unknown", FakeKind::Mail),
            (0, "billingFirstName", "Anna", FakeKind::FirstName),
            (0, "last_name", "Berg", FakeKind::LastName),
            (0, "customer.surname", "Berg", FakeKind::LastName),
            (0, "tel", "0123 456", FakeKind::Phone),
            (0, "hotel", "Ritz", FakeKind::Name),
            (0, "homeAddress", "1 Way", FakeKind::Address),
            (0, "zip", "12345", FakeKind::Postcode),
            (0, "zip", "12345-6789", FakeKind::Postcode),
            (0, "userName", "anna7", FakeKind::Login),
            (0, "note", "one two three four five", FakeKind::Prose),
            (0, "note", "one two", FakeKind::Name),
            (0, "note", "AB-1234", FakeKind::Formed(TextForm::Code)),
            // The stored meaning beats the form, and the form the name.
            (2, "name", "not a link", FakeKind::Link),
            (8, "name", "not a mail", FakeKind::Mail),
            (11, "name", "12", FakeKind::Phone),
            (12, "mail", "anna@shop.example", FakeKind::Address),
            (17, "name", "AMIfv95", FakeKind::Token),
            (0, "name", "https://shop.example/anna", FakeKind::Link),
            (0, "company", "+49 89 1234567", FakeKind::Phone),
            (
                0,
                "name",
                "1600 Amphitheatre Parkway, Mountain View, CA",
                FakeKind::Address,
            ),
            (0, "name", "2013-10-12", FakeKind::Formed(TextForm::Date)),
        ] {
            assert_eq!(
                classify(meaning, name, value),
                expected,
                "{meaning} {name} {value}"
            );
        }
    }

    #[test]
    fn fake_text_keeps_its_form() {
        let key = RedactKey::from_secret(b"secret");
        let of = |value| faked(&key, 0, "p", value);
        for (value, begin) in [
            ("https://shop.example/anna?x=1", "https://example.com/"),
            ("HTTP://shop.example", "http://example.com/"),
            ("www.shop.example", "www.example.com/"),
            ("mailto:anna@shop.example", "mailto:"),
            ("tel:+49891234567", "tel:+1-"),
            ("gs://bucket/anna.jpg", "gs://example.com/"),
            ("192.168.10.12", "192.0.2."),
            ("fe80::1:2", "2001:db8::"),
            ("+49 (89) 1234567", "+1-"),
        ] {
            assert!(of(value).starts_with(begin), "{value}: {}", of(value));
        }
        assert_eq!(
            of("a@x.example, b@x.example")
                .matches("@example.com")
                .count(),
            2
        );
        assert!(of("1 High Street, London").contains(", "));
        assert!(of("Hauptstraße 12\n80331 München").contains('\n'));
        let date = of("1971-02-30T12:34:56Z");
        assert!(date.ends_with("T00:00:00Z") && date.len() == 20, "{date}");
        for value in [
            "0b9fdc9e-9a3c-4b8a-8f5e-2f6f3f0a1b2c",
            "DE89370400440532013000",
            "4111 1111 1111 1111",
        ] {
            let shape = |text: &str| {
                text.chars()
                    .map(|c| if c.is_alphanumeric() { 'x' } else { c })
                    .collect::<String>()
            };
            assert_eq!(shape(&of(value)), shape(value));
            assert_ne!(of(value), value);
        }
    }

    #[test]
    fn fake_value_is_stable_and_never_original() {
        let key = RedactKey::from_secret(b"secret");
        for (row, _) in NAMES {
            for value in ["Anna", "James", "a", "x@y", "Germany", "Smith"] {
                let name = NAMES.iter().find(|(sort, _)| *sort == row).unwrap().1[0];
                let made = faked(&key, 0, name, value);
                assert_eq!(made, faked(&key, 0, name, value));
                assert!(!shows(&made, value), "{made}");
            }
        }
        assert_eq!(faked(&key, 0, "name", ""), "");
        assert_ne!(faked(&key, 0, "mail", "a@x"), faked(&key, 0, "mail", "b@x"));
        assert_ne!(
            faked(&key, 0, "mail", "a@x"),
            faked(&RedactKey::from_secret(b"another"), 0, "mail", "a@x")
        );
        let mail = faked(&key, 0, "mail", "a@x");
        assert!(mail.ends_with("@example.com") && mail.is_ascii(), "{mail}");
        assert!(faked(&key, 0, "phone", "1").contains("-555-01"));
    }

    proptest! {
        #[test]
        fn fakes_never_panic_or_leak(meaning in 0..26_u64, name in "[a-zA-Z_.]{0,12}", value in "\\PC{0,40}|[0-9+()./: @-]{0,30}") {
            let key = RedactKey::from_secret(b"secret");
            let made = faked(&key, meaning, &name, &value);
            prop_assert_eq!(made.is_empty(), value.is_empty());
            prop_assert!(value.is_empty() || !shows(&made, &value) || made.len() == 32, "{} {}", value, made);
        }
    }
}
