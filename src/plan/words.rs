//! Words that reasons, warnings and cycles share.

/// The first names of a list of `count`, and how many more there are.
pub(super) fn shortened(names: impl Iterator<Item = String>, count: usize, most: usize) -> String {
    let names: Vec<String> = names.take(most).collect();
    match count.saturating_sub(names.len()) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// Such as `1 reference` or `812 references`.
pub(super) fn counted_references(count: u64) -> String {
    match count {
        1 => "1 reference".to_owned(),
        count => format!("{count} references"),
    }
}

/// Such as `1 of 41 references points forward`; nothing where there are none, or nobody counted.
pub(super) fn pointing_forward(later: Option<u64>, references: Option<u64>) -> Option<String> {
    let (later, references) = (later?, references.filter(|count| *count > 0)?);
    let point = if later == 1 { "points" } else { "point" };
    let references = counted_references(references);
    Some(format!("{later} of {references} {point} forward"))
}
