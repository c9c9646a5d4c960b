//! File names for kinds and namespaces, which may hold what file names cannot.

/// The longest name that common file systems take, less what an ending may add.
const NAME_MAX_BYTES: usize = 200;

/// A file name for any text: percent-encoded where a file name could not hold it. Names that are too long end in a checksum instead.
pub fn file_name(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        match c {
            // What no file name can hold, and `%`, so that the encoding can be undone.
            '/' | '\\' | '%' | '\0'..='\x1f' | '\x7f' => name.push_str(&format!("%{:02X}", u32::from(c))),
            c => name.push(c),
        }
    }
    match name.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => bounded(name),
    }
}

/// A name that is short enough for common file systems: what is too long ends in a checksum of the whole.
pub fn bounded(name: String) -> String {
    if name.len() <= NAME_MAX_BYTES {
        return name;
    }
    let cut = (0..=NAME_MAX_BYTES).rev().find(|cut| name.is_char_boundary(*cut)).unwrap_or_default();
    format!("{}~{:08x}", name.get(..cut).unwrap_or_default(), crc32c::crc32c(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_gets_a_file_name_of_its_own() {
        assert_eq!(file_name("a/b%c\\d\n"), "a%2Fb%25c%5Cd%0A");
        assert_eq!(file_name("Größe 価格表: *"), "Größe 価格表: *");
        assert_eq!((file_name(".."), file_name(".")), ("%2E%2E".to_owned(), "%2E".to_owned()));
        let (long, other) = (file_name(&"x".repeat(1500)), file_name(&"x".repeat(1499)));
        assert!(long.len() < 255 && long != other);
    }
}
