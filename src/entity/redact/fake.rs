//! Plausible values in the place of real ones, always the same one for the same value and key.
//!
//! Knows what names of properties and looks of values tell. Whatever it makes reaches nobody: mails, links and phone numbers are of those that
//! are reserved for examples.

use fake::Fake as _;
use fake::RngExt as _;
use fake::faker::address::en::{CityName, CountryName, StreetName, ZipCode};
use fake::faker::company::en::CompanyName;
use fake::faker::lorem::en::Words;
use fake::faker::name::en::{FirstName, LastName, Name};
use fake::rand::SeedableRng as _;
use fake::rand::rngs::ChaCha8Rng;

use super::secret::RedactKey;

/// What a text seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Mail,
    FirstName,
    LastName,
    Phone,
    Street,
    City,
    Postcode,
    Country,
    Company,
    Login,
    Link,
    Name,
    Prose,
}

/// What words in a property's name tell; the first row that fits counts.
const TOLD_BY: [(Sort, &[&str]); 12] = [
    (Sort::Mail, &["mail"]),
    (Sort::FirstName, &["firstname", "first", "givenname", "given", "forename"]),
    (Sort::LastName, &["lastname", "last", "surname", "familyname", "family"]),
    (Sort::Phone, &["phone", "mobile", "tel", "fax", "cell"]),
    (Sort::Company, &["company", "organisation", "organization", "firm", "employer"]),
    (Sort::Postcode, &["postcode", "postal", "zip", "plz"]),
    (Sort::City, &["city", "town"]),
    (Sort::Country, &["country"]),
    (Sort::Street, &["street", "address", "addr"]),
    (Sort::Link, &["link", "website", "homepage", "url", "uri"]),
    (Sort::Login, &["username", "login", "user", "nick", "handle"]),
    (Sort::Name, &["name"]),
];

/// A word of a name that is at least as long counts as part of a longer one, too.
const COMPOUND_LEN: usize = 4;

/// More words than a name has.
const PROSE_WORDS: usize = 5;

/// As long as an indexed text may be, with some room.
const PROSE_WORDS_MAX: usize = 100;

/// How often something else is made where what came out holds the value itself.
const TRIES: u32 = 16;

/// A made-up text for `value` of the property `name`.
pub(super) fn text(key: &RedactKey, name: &str, value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    let sort = sort(name, value);
    let mut seed = key.mac(value.as_bytes());
    for _ in 0..TRIES {
        let made = made(sort, value, ChaCha8Rng::from_seed(seed));
        if !tells(&made, value) {
            return made;
        }
        seed = key.mac(&seed);
    }
    key.text(value.as_bytes())
}

/// Whether a made-up text still shows the value; very short ones stand in everything.
fn tells(made: &str, value: &str) -> bool {
    let (made, value) = (made.to_lowercase(), value.to_lowercase());
    made == value || (value.chars().count() > 2 && made.contains(&value))
}

fn sort(name: &str, value: &str) -> Sort {
    let words = value.split_whitespace().count();
    if words == 1 && value.contains('@') {
        return Sort::Mail;
    }
    let names = words_of(name);
    let fits = |needle: &&'static str| names.iter().any(|word| word == needle || (needle.len() >= COMPOUND_LEN && word.contains(needle)));
    match TOLD_BY.iter().find(|(_, needles)| needles.iter().any(fits)) {
        Some((sort, _)) => *sort,
        None if words >= PROSE_WORDS => Sort::Prose,
        None => Sort::Name,
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

fn made(sort: Sort, value: &str, mut random: ChaCha8Rng) -> String {
    let random = &mut random;
    match sort {
        Sort::Mail => {
            let (first, last): (String, String) = (FirstName().fake_with_rng(random), LastName().fake_with_rng(random));
            // The digits keep the mails of different people different.
            format!("{}.{}.{:08x}@example.com", plain(&first), plain(&last), random.random::<u32>())
        }
        Sort::Login => {
            let first: String = FirstName().fake_with_rng(random);
            format!("{}.{:08x}", plain(&first), random.random::<u32>())
        }
        Sort::Phone => format!("+1-{}-555-01{:02}", random.random_range(200..990), random.random_range(0..100)),
        Sort::Link => format!("https://example.com/{:08x}", random.random::<u32>()),
        Sort::Street => format!("{} {}", random.random_range(1..300), StreetName().fake_with_rng::<String, _>(random)),
        Sort::FirstName => FirstName().fake_with_rng(random),
        Sort::LastName => LastName().fake_with_rng(random),
        Sort::City => CityName().fake_with_rng(random),
        Sort::Postcode => ZipCode().fake_with_rng(random),
        Sort::Country => CountryName().fake_with_rng(random),
        Sort::Company => CompanyName().fake_with_rng(random),
        Sort::Name => Name().fake_with_rng(random),
        Sort::Prose => {
            let words = value.split_whitespace().count().min(PROSE_WORDS_MAX);
            Words(words..words + 1).fake_with_rng::<Vec<String>, _>(random).join(" ")
        }
    }
}

fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_property_and_the_look_of_a_value_tell_what_is_made() {
        for (name, value, expected) in [
            ("anything", "anna@shop.example", Sort::Mail),
            ("eMail", "unknown", Sort::Mail),
            ("billingFirstName", "Anna", Sort::FirstName),
            ("last_name", "Berg", Sort::LastName),
            ("customer.surname", "Berg", Sort::LastName),
            ("tel", "0123 456", Sort::Phone),
            ("hotel", "Ritz", Sort::Name),
            ("homeAddress", "1 Way", Sort::Street),
            ("zip", "12345", Sort::Postcode),
            ("userName", "anna7", Sort::Login),
            ("note", "one two three four five", Sort::Prose),
            ("note", "one two", Sort::Name),
        ] {
            assert_eq!(sort(name, value), expected, "{name}");
        }
    }

    #[test]
    fn what_is_made_is_stable_and_never_the_value_itself() {
        let key = RedactKey::from_secret(b"secret");
        for (row, _) in TOLD_BY {
            for value in ["Anna", "James", "a", "x@y", "Germany", "Smith"] {
                let name = TOLD_BY.iter().find(|(sort, _)| *sort == row).unwrap().1[0];
                let made = text(&key, name, value);
                assert_eq!(made, text(&key, name, value));
                assert!(!tells(&made, value), "{made}");
            }
        }
        assert_eq!(text(&key, "name", ""), "");
        assert_ne!(text(&key, "mail", "a@x"), text(&key, "mail", "b@x"));
        assert_ne!(text(&key, "mail", "a@x"), text(&RedactKey::from_secret(b"another"), "mail", "a@x"));
        let mail = text(&key, "mail", "a@x");
        assert!(mail.ends_with("@example.com") && mail.is_ascii(), "{mail}");
        assert!(text(&key, "phone", "1").contains("-555-01"));
    }
}
