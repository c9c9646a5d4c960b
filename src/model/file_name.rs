//! File names for kinds and namespaces, which may hold what file names cannot.

use icu_normalizer::DecomposingNormalizerBorrowed;
use sha2::Digest as _;

use super::{KindRef, Sha256};

/// The longest name that common file systems take, less what an ending may add.
const MAX_NAME_BYTES: usize = 200;

/// What a name that is shortened ends in: `~` and a SHA-256.
const DIGEST_BYTES: usize = 65;

/// A file name for any text: percent-encoded where a file name could not hold it. Names that are
/// too long end in a digest instead.
pub fn file_name(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        match c {
            // What no file name can hold, what no archive's entry may, and `%`, so that the
            // encoding can be undone.
            c if c.is_control() || matches!(c, '/' | '\\' | '%') => {
                c.encode_utf8(&mut [0; 4])
                    .bytes()
                    .for_each(|byte| name.push_str(&format!("%{byte:02X}")));
            }
            c => name.push(c),
        }
    }
    match name.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => truncate_name(name),
    }
}

/// A name that is short enough for common file systems: what is too long ends in a digest of the
/// whole.
pub fn truncate_name(name: String) -> String {
    shortened(name, MAX_NAME_BYTES)
}

/// A name that ends in a digest of the whole where it is longer than `most`. Such a name is a
/// little longer than `most`, so it is never one that another text has as it is.
pub fn shortened(name: String, most: usize) -> String {
    if name.len() <= most {
        return name;
    }
    let cut = name.floor_char_boundary(most + 4 - DIGEST_BYTES);
    format!(
        "{}~{}",
        name.split_at(cut).0,
        Sha256(sha2::Sha256::digest(&name).into())
    )
}

/// The folder and the file of a pair; the default namespace is `(default)`.
pub fn pair_names(pair: &KindRef) -> (String, String) {
    let namespace = if pair.namespace.is_default() {
        pair.namespace.to_string()
    } else {
        file_name(pair.namespace.as_str())
    };
    (namespace, file_name(pair.kind.as_str()))
}

/// What names have in common that a file system may take for one: some ignore case, some how
/// accents are written, some both.
pub fn folded(name: &str) -> String {
    let decomposed = DecomposingNormalizerBorrowed::new_nfd();
    // There and back: some letters have several small forms.
    let folded = decomposed.normalize(name).to_uppercase().to_lowercase();
    decomposed.normalize(&folded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_unique_file_name() {
        assert_eq!(file_name("a/b%c\\d\n\u{9b}"), "a%2Fb%25c%5Cd%0A%C2%9B");
        assert_eq!(file_name("Größe 価格表: *"), "Größe 価格表: *");
        assert_eq!(
            (file_name(".."), file_name(".")),
            ("%2E%2E".to_owned(), "%2E".to_owned())
        );
        let (long, other) = (file_name(&"x".repeat(1500)), file_name(&"x".repeat(1499)));
        assert!(long.len() < 255 && long != other);
    }

    #[test]
    fn no_kind_has_a_shortened_name() {
        for kind in [
            "x".repeat(201),
            "é".repeat(750),
            "/".repeat(99),
            "価".repeat(500),
            format!("a{}", "価".repeat(499)),
        ] {
            let short = file_name(&kind);
            assert!((201..=204).contains(&short.len()), "{}", short.len());
            assert!(!short.contains(char::REPLACEMENT_CHARACTER));
            assert_ne!(
                file_name(&short),
                short,
                "a kind that is called like it is shortened as well"
            );
        }
        assert_eq!(file_name(&"x".repeat(200)), "x".repeat(200));
    }

    #[test]
    fn equivalent_file_names_fold_alike() {
        for (one, other) in [
            ("User", "uSER"),
            ("caf\u{e9}", "CAFE\u{301}"),
            ("Straße", "STRASSE"),
            ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
            ("ſ", "S"),
            ("\u{212b}", "å"),
        ] {
            assert_eq!(folded(one), folded(other));
        }
        for (one, other) in [
            ("User", "Users"),
            ("ﬁ1", "fi2"),
            ("x²", "x2"),
            ("Ａ", "A"),
            ("cafe", "café"),
        ] {
            assert_ne!(folded(one), folded(other));
        }
    }
}
