//! The form of a text: what its characters say it is, without a name or a meaning.
//!
//! Knows forms only, and says nothing where several are as likely. What is made of one is for
//! `fake`.

use std::net::IpAddr;

/// What a text looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextForm {
    /// One mail address, or several.
    Mail,
    /// An address with a scheme, or one that begins with `www.`.
    Link,
    /// A phone number as people write it.
    Phone,
    /// A street with a number.
    Address,
    /// A date, or a date with a time.
    Date,
    /// An address of version 4 or 6.
    Ip,
    /// 32 hex digits with hyphens between them.
    Uuid,
    /// One word with digits in it, or numbers: an order number, an IBAN.
    Code,
}

/// Schemes that need no `//`.
const BARE_SCHEMES: [&str; 7] = ["mailto", "tel", "sms", "callto", "urn", "data", "sip"];

/// Words, and ends of words, of streets.
const STREETS: [&str; 24] = [
    "street",
    "st",
    "road",
    "rd",
    "avenue",
    "ave",
    "lane",
    "drive",
    "boulevard",
    "blvd",
    "parkway",
    "court",
    "square",
    "highway",
    "rue",
    "via",
    "calle",
    "rua",
    "str",
    "straße",
    "strasse",
    "weg",
    "platz",
    "allee",
];

/// An end of a word that is shorter occurs in other words too.
const STREET_END_LEN: usize = 4;

/// Digits of a phone number, at least and at most.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// A number that begins like no phone number has at least as many digits if it is one.
const BARE_PHONE_DIGITS: usize = 10;

/// Words of an address at the most.
const ADDRESS_WORDS: usize = 14;

/// The form of a text; none where it is words like any others.
pub(super) fn form(text: &str) -> Option<TextForm> {
    let text = text.trim();
    let words = text.split_whitespace().count();
    if words == 1 && is_link(text) {
        return Some(TextForm::Link);
    }
    if is_mail(text) {
        return Some(TextForm::Mail);
    }
    if text.parse::<IpAddr>().is_ok() {
        return Some(TextForm::Ip);
    }
    if is_uuid(text) {
        return Some(TextForm::Uuid);
    }
    if is_date(text) {
        return Some(TextForm::Date);
    }
    if is_phone(text) {
        return Some(TextForm::Phone);
    }
    if is_address(text, words) {
        return Some(TextForm::Address);
    }
    let has_digit = text.chars().any(|c| c.is_ascii_digit());
    let is_number = text
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, ' ' | '-' | '.' | '/'));
    (has_digit && (words == 1 || is_number)).then_some(TextForm::Code)
}

fn is_link(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("www.") || lower.starts_with("//") {
        return true;
    }
    let Some((scheme, rest)) = lower.split_once(':') else {
        return false;
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '.' | '-'));
    is_scheme && !rest.is_empty() && (rest.starts_with("//") || BARE_SCHEMES.contains(&scheme))
}

/// One or more mail addresses, each alone or in angle brackets behind a name.
fn is_mail(text: &str) -> bool {
    let is_one = |part: &str| {
        let part = part.trim();
        let address = part
            .strip_suffix('>')
            .and_then(|part| part.rsplit_once('<'))
            .map_or(part, |(_, address)| address);
        let parts = address.rsplit_once('@');
        !address.contains(char::is_whitespace)
            && parts.is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
    };
    text.contains('@')
        && (is_one(text)
            || text.split([',', ';']).all(is_one)
            || text.split_whitespace().all(is_one))
}

fn is_uuid(text: &str) -> bool {
    let lens: Vec<usize> = text.split('-').map(str::len).collect();
    lens == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// Year, month and day in some order with `-`, `.` or `/` between them, and perhaps a time behind
/// them.
fn is_date(text: &str) -> bool {
    let (day, time) = text.split_once(['T', ' ']).unwrap_or((text, ""));
    let Some(separator) = day
        .chars()
        .find(|c| !c.is_ascii_digit())
        .filter(|c| matches!(c, '-' | '.' | '/'))
    else {
        return false;
    };
    let parts: Vec<&str> = day.split(separator).collect();
    let lens: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let is_day = matches!(lens.as_slice(), [4, 1..=2, 1..=2] | [1..=2, 1..=2, 4])
        && parts
            .iter()
            .all(|part| part.chars().all(|c| c.is_ascii_digit()))
        && parts.iter().filter(|part| part.len() < 4).all(|part| {
            part.parse()
                .is_ok_and(|number: u32| (1..=31).contains(&number))
        });
    let is_time = time.is_empty()
        || (time.contains(':')
            && time
                .chars()
                .all(|c| c.is_ascii_digit() || matches!(c, ':' | '.' | '+' | '-' | 'Z')));
    is_day && is_time
}

fn is_phone(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let may_stand =
        |c: char| c.is_ascii_digit() || matches!(c, '+' | '(' | ')' | ' ' | '-' | '/' | '.');
    if !PHONE_DIGITS.contains(&digits)
        || !text.chars().all(may_stand)
        || text.rfind('+').is_some_and(|at| at > 1)
    {
        return false;
    }
    let groups = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|group| !group.is_empty())
        .count();
    // A row of digits alone may be anything.
    text.starts_with('+')
        || (groups > 1 && text.starts_with(['(', '0']))
        || (groups > 2 && digits >= BARE_PHONE_DIGITS)
}

fn is_address(text: &str, words: usize) -> bool {
    if !(2..=ADDRESS_WORDS).contains(&words) {
        return false;
    }
    let bare: Vec<String> = text
        .split_whitespace()
        .map(|word| {
            word.trim_matches(|c: char| !c.is_alphanumeric())
                .to_lowercase()
        })
        .collect();
    let is_number =
        |word: &String| word.len() <= 6 && word.starts_with(|c: char| c.is_ascii_digit());
    let is_street = |word: &String| {
        STREETS.iter().any(|street| {
            word == street || (street.chars().count() >= STREET_END_LEN && word.ends_with(street))
        })
    };
    let is_name = |word: &str| word.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit());
    let has_parts = text.contains(',') || text.contains('\n');
    bare.iter().any(is_number)
        && (bare.iter().any(is_street)
            || (words > 2 && has_parts && text.split_whitespace().all(is_name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_form_that_people_see() {
        for (expected, texts) in [
            (
                Some(TextForm::Link),
                &[
                    "https://a.example/x?y=1#z",
                    "HTTP://A.EXAMPLE",
                    "www.a.example",
                    "//a.example/x",
                    "mailto:a@b.example",
                    "tel:+49891",
                    "gs://b/o",
                ][..],
            ),
            (
                Some(TextForm::Mail),
                &[
                    "a@b.example",
                    "x@y",
                    "Anna Berg <a@b.example>",
                    "a@b.example, c@d.example",
                    "a@b.example;c@d.example",
                ],
            ),
            (
                Some(TextForm::Phone),
                &[
                    "+49 89 1234567",
                    "+49891234567",
                    "(089) 123 45 67",
                    "089/1234567",
                    "212-555-1234",
                    "0123 456789",
                ],
            ),
            (
                Some(TextForm::Address),
                &[
                    "1 High Street",
                    "Hauptstraße 12",
                    "Hauptstr. 12, 80331 München",
                    "12 rue de Rivoli",
                    "350 5th Ave, New York, NY 10118",
                ],
            ),
            (
                Some(TextForm::Date),
                &[
                    "2013-10-12",
                    "12.10.2013",
                    "1/2/1980",
                    "2013-10-12T10:00:00.5Z",
                    "2013-10-12 10:00",
                ],
            ),
            (Some(TextForm::Ip), &["10.0.0.1", "::1", "2001:db8::7"]),
            (
                Some(TextForm::Uuid),
                &["0b9fdc9e-9a3c-4b8a-8f5e-2f6f3f0a1b2c"],
            ),
            (
                Some(TextForm::Code),
                &[
                    "12345",
                    "12345-6789",
                    "123-45-6789",
                    "AB-1234",
                    "anna7",
                    "4111 1111 1111 1111",
                    "3.14",
                ],
            ),
            (
                None,
                &[
                    "",
                    "Anna",
                    "Anna Berg",
                    "@anna",
                    "a @ b",
                    "note: call",
                    "12 apples",
                    "He paid 5, then left",
                    "Dr. Who",
                    "@",
                    "ratio 1:2",
                    "C:",
                ],
            ),
        ] {
            for text in texts {
                assert_eq!(form(text), expected, "{text}");
            }
        }
    }
}
