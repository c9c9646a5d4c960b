//! Names of entries: which are refused, and how names of other zips are read.
//!
//! Knows text only. How a name becomes a path on some disk is decided where entries are extracted.

use super::rule::{Rule, Violation};

/// The longest name that a header can hold, in bytes.
const MAX_NAME_LEN_BYTES: usize = u16::MAX as usize;

/// Checks that `name` may stand in an archive of kindpack: relative, `/` between segments, no
/// segment that is empty, `.` or `..`, no control character, 1 to 65,535 bytes of UTF-8.
///
/// A backslash and a colon are allowed, as kinds may hold them.
pub fn check_name(name: &str) -> Result<(), Violation> {
    let refuse = |rule, expected, found: &str| Err(Violation::entry(rule, name, expected, found));
    if name.is_empty() || name.len() > MAX_NAME_LEN_BYTES {
        return refuse(
            Rule::NameLen,
            "1 to 65,535 bytes",
            &format!("{} bytes", name.len()),
        );
    }
    if let Some(c) = name.chars().find(|c| c.is_control()) {
        return refuse(
            Rule::NameControl,
            "no control character",
            &c.escape_default().to_string(),
        );
    }
    if name.starts_with('/') {
        return refuse(Rule::NameRelative, "a relative name", "an absolute one");
    }
    for segment in name.split('/') {
        match segment {
            "" => return refuse(Rule::NameSegment, "named segments", "an empty one"),
            "." | ".." => return refuse(Rule::NameSegment, "named segments", segment),
            _ => {}
        }
    }
    Ok(())
}

/// Checks a name of a zip that kindpack did not make: as [`check_name`], but a `/` at the end may
/// mark a directory, and what some readers would take for a separator or a drive is refused.
pub(super) fn check_foreign_name(name: &str) -> Result<(), Violation> {
    if name.contains('\\') {
        return Err(Violation::entry(
            Rule::NameBackslash,
            name,
            "`/` between segments",
            "a backslash",
        ));
    }
    if let [drive, b':', ..] = name.as_bytes()
        && drive.is_ascii_alphabetic()
    {
        return Err(Violation::entry(
            Rule::NameRelative,
            name,
            "a relative name",
            "a drive",
        ));
    }
    // The name `/` alone stays as it is: it is absolute, not empty.
    let file = name
        .strip_suffix('/')
        .filter(|file| !file.is_empty())
        .unwrap_or(name);
    check_name(file).map_err(|violation| Violation {
        entry: Some(name.to_owned()),
        ..violation
    })
}

/// Reads the bytes of a name: UTF-8 where the flag says so (`None` where it lies), else UTF-8 where
/// it is, else code page 437.
pub(super) fn decode(bytes: &[u8], said_to_be_utf8: bool) -> Option<String> {
    match std::str::from_utf8(bytes) {
        Ok(name) => Some(name.to_owned()),
        Err(_) if said_to_be_utf8 => None,
        Err(_) => {
            let high: Vec<char> = HIGH_CP437.chars().collect();
            let read = |&byte: &u8| {
                if byte.is_ascii() {
                    Some(char::from(byte))
                } else {
                    high.get(usize::from(byte & 0x7f)).copied()
                }
            };
            bytes.iter().map(read).collect()
        }
    }
}

/// Code page 437 from 0x80 on.
const HIGH_CP437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

#[cfg(test)]
mod tests {
    use super::*;

    fn rule_of(result: Result<(), Violation>) -> Option<&'static str> {
        result.err().map(|violation| violation.rule.name())
    }

    #[test]
    fn names_that_kinds_can_bring_are_fine() {
        let long = "n".repeat(65_535);
        for name in [
            "manifest.json",
            "exports/a/b",
            r"exports/kind_a\b",
            "C:",
            "exports/100%/*?\"<>|",
            "exports/Größe価格表",
            "...",
            "a..b/.c",
            &long,
        ] {
            assert_eq!(check_name(name), Ok(()), "{name:.40}");
        }
    }

    #[test]
    fn unsafe_names_are_refused_by_rule() {
        let long = "n".repeat(65_536);
        for (name, rule) in [
            ("", "name-len"),
            (&*long, "name-len"),
            ("/", "name-relative"),
            ("/etc/passwd", "name-relative"),
            ("..", "name-segment"),
            ("a/../b", "name-segment"),
            ("a/./b", "name-segment"),
            ("a//b", "name-segment"),
            ("a/", "name-segment"),
            ("a\0b", "name-control"),
            ("a\nb", "name-control"),
            ("a\u{7f}", "name-control"),
            ("a\u{9b}", "name-control"),
        ] {
            assert_eq!(rule_of(check_name(name)), Some(rule), "{name:.40}");
        }
    }

    #[test]
    fn foreign_zips_may_have_directories_not_drives() {
        assert_eq!(check_foreign_name("a/b/"), Ok(()));
        for (name, rule) in [
            ("a//", "name-segment"),
            ("/", "name-relative"),
            ("../", "name-segment"),
            (r"a\b", "name-backslash"),
            ("C:/x", "name-relative"),
            ("c:x", "name-relative"),
        ] {
            assert_eq!(rule_of(check_foreign_name(name)), Some(rule), "{name}");
        }
    }

    #[test]
    fn old_names_are_code_page_437() {
        assert_eq!(HIGH_CP437.chars().count(), 128);
        assert_eq!(decode(b"caf\x82", false).unwrap(), "café");
        assert_eq!(decode(b"\xff\x80", false).unwrap(), "\u{a0}Ç");
        assert_eq!(decode("café".as_bytes(), false).unwrap(), "café");
        assert_eq!(decode(b"caf\x82", true), None);
    }
}
