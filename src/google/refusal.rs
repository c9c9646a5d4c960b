//! What may be repeated of a refusal of Google's services: phrases that hold nobody's data. Pure.
//!
//! A service quotes keys, values and addresses in many ways, with quotes or without. So nothing of
//! its own text is ever shown: where a phrase is known, ours is.

use std::borrow::Cow;

/// What is shown where a service does not take the meaning of a value.
pub const MEANING_MISMATCH: &str = "the meaning of a value does not match its type";

/// Sentences of Datastore, of its emulators and of Cloud Storage that are shown as they are.
const PHRASES: [&str; 57] = [
    // Datastore: entities and keys.
    "Key path element must not be incomplete",
    "Key path element must not be complete",
    "Key path element id is invalid. Must not be zero",
    "Key path is too long",
    "Entity is missing key",
    "entity is too big",
    "Too many indexed properties",
    "Indexed value has meaning",
    "Unknown value meaning",
    "A Value containing a list_value cannot specify a meaning",
    "A timestamp in range [0001-01-01T00:00:00Z, 9999-12-31T23:59:59.999999Z] must be stored as a timestamp value",
    "Exclude from indexes cannot be set on a list value",
    "list_value cannot contain a Value containing another list_value",
    "Geo point latitude outside permitted range -90.0 to 90.0",
    "Geo point longitude outside permitted range -180.0 to 180.0",
    "Geo point latitude is not a number",
    "Geo point longitude is not a number",
    // Datastore: requests.
    "mismatched databases within request",
    "cannot write more than 500 entities in a single call",
    "cannot get more than 1000 keys in a single call",
    "Payload isn't valid for request",
    "entity already exists",
    "no entity to update",
    "the id allocated for a new entity was already in use",
    "too much contention on these datastore entities",
    "The datastore operation timed out, or the data was temporarily unavailable",
    "RST_STREAM closed stream",
    "Database mode not set to Datastore Mode",
    // Datastore: exports and imports.
    "Failed to parse overall export metadata file",
    "Failed parse entity file",
    "The requested kinds/namespaces are not available",
    "Checksum doesn't validate",
    "Invalid record",
    "Failed to export entities",
    "The transaction could not be committed",
    "The requested snapshot version is too old",
    "Google Cloud Storage file does not exist",
    "please check billing account associated",
    "The caller does not have permission",
    "Permission 'storage.buckets.get' denied",
    "Permission 'storage.objects.create' denied",
    // Cloud Storage.
    "Bucket is a requester pays bucket but no user project provided",
    "The specified bucket does not exist",
    "No such object",
    "At least one of the pre-conditions you specified did not hold",
    "Permission denied on Cloud KMS key",
    "Invalid bucket name",
    // All of them.
    "The billing account for the owning project is disabled",
    "Request is prohibited by organization's policy",
    "Missing or insufficient permissions",
    "Request had invalid authentication credentials",
    "Quota exceeded",
    "Permission denied",
    "access denied",
    "An internal error occurred",
    "The service is temporarily unavailable",
    "Deadline exceeded",
];

/// Ends of sentences that begin with what may be somebody's data, and what is shown for them. The
/// longer before the shorter one in it.
const ENDS: [(&str, &str); 22] = [
    (
        "is longer than 1500 bytes",
        "an indexed value is longer than 1500 bytes",
    ),
    (
        "is longer than 1048487 bytes",
        "a value is longer than 1048487 bytes",
    ),
    ("is the empty string", "a name is the empty string"),
    ("is not valid UTF-8", "a name is not valid UTF-8"),
    ("is reserved", "a name in the key is reserved"),
    ("is not allowed", "something in it is not allowed"),
    (
        "A user value cannot contain",
        "a user value holds a property that is not allowed",
    ),
    ("which does not match", MEANING_MISMATCH),
    ("meaning does not match value fields", MEANING_MISMATCH),
    (
        "nested entity values are supported",
        "too many entities are nested",
    ),
    (
        "nested array/entity values are supported",
        "too many arrays and entities are nested",
    ),
    (
        "multiple mutations affecting the same entity",
        "two mutations have the same key",
    ),
    ("bucket does not exist", "the bucket does not exist"),
    (
        "retention policy",
        "the bucket's retention policy forbids it",
    ),
    (
        "is under active Event-Based hold",
        "the object is under an event-based hold",
    ),
    (
        "is under active Temporary hold",
        "the object is under a temporary hold",
    ),
    ("exceeded the rate limit", "the rate limit is exceeded"),
    (
        "has not been used in project",
        "the API is not enabled in the project",
    ),
    (
        "requires billing to be enabled",
        "the project has no billing account",
    ),
    (
        "access to the Google Cloud Storage",
        "the service agent has no access to the bucket",
    ),
    ("already exists", "something of that name already exists"),
    (
        "does not exist",
        "something named in the request does not exist",
    ),
];

/// What is shown of a service's words; none where no phrase in them is known.
fn known_phrase(words: &str) -> Option<Cow<'static, str>> {
    if let Some(made) = too_long_property(words).or_else(|| bucket_location(words)) {
        return Some(Cow::Owned(made));
    }
    let words = words.to_ascii_lowercase();
    let holds = |phrase: &&str| words.contains(&phrase.to_ascii_lowercase());
    let end = || {
        ENDS.into_iter()
            .find(|(end, _)| holds(end))
            .map(|(_, shown)| shown)
    };
    PHRASES
        .into_iter()
        .find(holds)
        .or_else(end)
        .map(Cow::Borrowed)
}

/// The sentence about a property that is too long, with the property's name: its value does not
/// stand in it.
fn too_long_property(words: &str) -> Option<String> {
    let (name, rest) = words
        .strip_prefix("The value of property \"")?
        .split_once('"')?;
    let (limit, _) = rest
        .strip_prefix(" is longer than ")?
        .split_once(" bytes")?;
    let limit: u64 = limit.parse().ok()?;
    Some(format!(
        "the value of property {name:?} is longer than {limit} bytes"
    ))
}

/// The sentence about a bucket of another location than the database's, without the bucket's name.
fn bucket_location(words: &str) -> Option<String> {
    let is_location = |text: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !text.is_empty() && text.len() <= 40 && text.chars().all(is_plain)
    };
    let (_, rest) = words.split_once(" is in location ")?;
    let (bucket, rest) = rest.split_once(". ")?;
    let wanted =
        rest.strip_prefix("This database can only operate on buckets spanning location ")?;
    let wanted: Vec<&str> = wanted.trim_end_matches('.').split(" or ").collect();
    let is_sound =
        is_location(bucket) && wanted.len() <= 8 && wanted.iter().copied().all(is_location);
    is_sound.then(|| {
        let wanted = wanted.join(" or ");
        format!("the bucket is in location {bucket}, the database needs {wanted}")
    })
}

/// A refusal as far as it may be shown: the protocol's status, such as `HTTP 400`, and the known
/// phrase in the service's words.
pub fn refusal(status: &str, words: &str) -> String {
    match known_phrase(words) {
        Some(phrase) => format!("{status}: {phrase}"),
        None => status.to_owned(),
    }
}

/// How much of a service's own sentence is shown, in characters.
const MAX_WORDS_CHARS: usize = 300;

/// A refusal of a call that holds nobody's data, such as the start of an export: the known phrase,
/// or else the first line of the service's own words.
pub fn refusal_in_full(status: &str, words: &str) -> String {
    let line = words.lines().next().unwrap_or_default().trim();
    if line.is_empty() || known_phrase(words).is_some() {
        return refusal(status, words);
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let shown: String = line.chars().take(MAX_WORDS_CHARS).map(plain).collect();
    format!("{status}: {shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_refusal_shows_one_bounded_line() {
        let shown = refusal_in_full("HTTP 400", "Kind is not\u{1b}[31m there\nSECRET");
        assert_eq!(shown, "HTTP 400: Kind is not [31m there");
        assert_eq!(refusal_in_full("HTTP 500", ""), "HTTP 500");
        let long = refusal_in_full("HTTP 400", &"é".repeat(1_000));
        assert_eq!(long.chars().count(), "HTTP 400: ".len() + MAX_WORDS_CHARS);
    }

    #[test]
    fn refusal_shows_status_and_known_phrase_only() {
        for (words, shown) in [
            (
                "Key path element must not be incomplete: [Customer: SECRET, K: ]",
                "HTTP 400: Key path element must not be incomplete",
            ),
            (
                r#"The key path element name "__"SECRET"__" is reserved."#,
                "HTTP 400: a name in the key is reserved",
            ),
            (
                r#"The value of property "mail" is longer than 1500 bytes: "SECRET""#,
                r#"HTTP 400: the value of property "mail" is longer than 1500 bytes"#,
            ),
            (
                r#"The value of property "SECRET"s" is longer than 1500 bytes"#,
                "HTTP 400: an indexed value is longer than 1500 bytes",
            ),
            (
                "Invalid value SECRET for key [Customer:'SECRET']",
                "HTTP 400",
            ),
            (r#"The value "SECRET"#, "HTTP 400"),
            (
                "MISSING OR INSUFFICIENT PERMISSIONS.",
                "HTTP 400: Missing or insufficient permissions",
            ),
            (
                "Bucket SECRET is in location us. This database can only operate on buckets spanning location asia or asia-northeast3.",
                "HTTP 400: the bucket is in location us, the database needs asia or asia-northeast3",
            ),
            (
                "Bucket b is in location SECRET/x. This database can only operate on buckets spanning location asia.",
                "HTTP 400",
            ),
            ("<html>SECRET</html>", "HTTP 400"),
            ("", "HTTP 400"),
        ] {
            assert_eq!(refusal("HTTP 400", words), shown);
        }
    }

    #[test]
    fn no_phrase_hides_another_one() {
        let all = PHRASES
            .into_iter()
            .map(|phrase| (phrase, phrase))
            .chain(ENDS);
        for (phrase, shown) in all {
            assert_eq!(known_phrase(phrase).as_deref(), Some(shown));
        }
    }
}
