//! Names of entries: which are refused, and how names of other zips are read.
//!
//! Knows text only. How a name becomes a path on some disk is decided where entries are extracted.

use super::rule::{DisplayName, NAME_TAKEN, Rule, Violation};

/// The longest name that a header can hold, in bytes.
const MAX_NAME_LEN_BYTES: usize = u16::MAX as usize;

/// The longest path that Linux takes (`PATH_MAX` without its end), in bytes. Others take less, and
/// objects of Cloud Storage have at most 1,024.
const MAX_PATH_LEN_BYTES: usize = 4_095;

/// The longest file name of NTFS, APFS and exFAT, in UTF-16 units; others count bytes.
const MAX_SEGMENT_LEN_UNITS: usize = 255;

/// Checks that `name` may stand in an archive of kindpack: relative, `/` between segments, no
/// segment that is empty, `.` or `..`, no control character, 1 to 4,095 bytes of UTF-8.
///
/// A backslash and a colon are allowed, as kinds may hold them. So is a segment that no file system
/// takes: kinds have up to 1,500 bytes.
pub fn check_name(name: &str) -> Result<(), Violation> {
    let refuse = |rule, fault: &str| Err(Violation::entry(rule, name, fault));
    if name.is_empty() || name.len() > MAX_NAME_LEN_BYTES {
        let fault = format!("its name has {} bytes, not 1 to 65,535", name.len());
        return refuse(Rule::NameLen, &fault);
    }
    if name.len() > MAX_PATH_LEN_BYTES {
        let fault = format!("its name has {} bytes, more than 4,095", name.len());
        return refuse(Rule::PathLen, &fault);
    }
    if let Some(c) = name.chars().find(|c| c.is_control()) {
        let fault = format!(
            "its name holds the control character {}",
            c.escape_default()
        );
        return refuse(Rule::NameControl, &fault);
    }
    if name.starts_with('/') {
        return refuse(Rule::NameRelative, "its name begins with `/`");
    }
    if name.split('/').any(str::is_empty) {
        return refuse(Rule::NameSegment, "its name has an empty segment");
    }
    match name
        .split('/')
        .find(|segment| matches!(*segment, "." | ".."))
    {
        Some(segment) => refuse(
            Rule::NameSegment,
            &format!("its name has a segment `{segment}`"),
        ),
        None => Ok(()),
    }
}

/// Checks a name of a zip that kindpack did not make: as [`check_name`], but a `/` at the end may
/// mark a directory, and what some readers would take for a separator or a drive is refused.
pub(super) fn check_foreign_name(name: &str) -> Result<(), Violation> {
    if name.contains('\\') {
        return Err(Violation::entry(
            Rule::NameBackslash,
            name,
            "its name holds a backslash",
        ));
    }
    if let [drive, b':', ..] = name.as_bytes()
        && drive.is_ascii_alphabetic()
    {
        return Err(Violation::entry(
            Rule::NameRelative,
            name,
            "its name begins with a drive",
        ));
    }
    check_segment_lens(name)?;
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

fn check_segment_lens(name: &str) -> Result<(), Violation> {
    let lens = name
        .split('/')
        .map(|segment| segment.encode_utf16().count());
    match lens.max() {
        Some(longest) if longest > MAX_SEGMENT_LEN_UNITS => Err(Violation::entry(
            Rule::PathLen,
            name,
            format_args!("its name has a segment of {longest} UTF-16 units, more than 255"),
        )),
        _ => Ok(()),
    }
}

/// Checks that no two names are one place on a disk, as `a` and `a/` are, and that no name is both
/// a file and a folder, as in `a` beside `a/b`.
pub fn check_places<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), Violation> {
    let mut places: Vec<(&str, bool)> = names.into_iter().map(place).collect();
    places.sort_unstable();
    let mut rest = places.as_slice();
    while let [(name, is_folder), after @ ..] = rest {
        rest = after;
        let Some((next, _)) = after.first().filter(|(next, _)| next.starts_with(name)) else {
            continue;
        };
        if next == name {
            return Err(Violation::entry(Rule::NameUnique, name, NAME_TAKEN));
        }
        if let Some(inside) = first_inside(after, name).filter(|_| !is_folder) {
            let fault = format_args!("it is a file, and {} is inside it", DisplayName(inside));
            return Err(Violation::entry(Rule::FileOrFolder, name, fault));
        }
    }
    Ok(())
}

/// A name without the `/` that marks a folder, and whether there was one.
fn place(name: &str) -> (&str, bool) {
    match name.strip_suffix('/') {
        Some(folder) => (folder, true),
        None => (name, false),
    }
}

/// The first of sorted names that is inside a folder. Names such as `a-b` may stand between `a`
/// and `a/b`.
fn first_inside<'a>(sorted: &[(&'a str, bool)], folder: &str) -> Option<&'a str> {
    let folder = format!("{folder}/");
    let at = sorted.partition_point(|(name, _)| *name < folder.as_str());
    let (name, _) = sorted.get(at)?;
    name.starts_with(&folder).then_some(*name)
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
        let long = "n".repeat(4_095);
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
        let [path, longest, long] = [4_096, 65_535, 65_536].map(|len| "n".repeat(len));
        for (name, rule) in [
            ("", "name-len"),
            (&*long, "name-len"),
            (&*path, "path-len"),
            (&*longest, "path-len"),
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
        let long = format!("a/{}/b", "é".repeat(255));
        for name in ["a/b/", &long] {
            assert_eq!(check_foreign_name(name), Ok(()), "{name:.40}");
        }
        for (name, rule) in [
            (&*format!("{long}{}", "n".repeat(255)), "path-len"),
            ("a//", "name-segment"),
            ("/", "name-relative"),
            ("../", "name-segment"),
            (r"a\b", "name-backslash"),
            ("C:/x", "name-relative"),
            ("c:x", "name-relative"),
        ] {
            let refused = check_foreign_name(name);
            let named = refused
                .as_ref()
                .err()
                .and_then(|refused| refused.entry.as_deref());
            assert_eq!(named, Some(name), "{name:.40}");
            assert_eq!(rule_of(refused), Some(rule), "{name:.40}");
        }
    }

    #[test]
    fn one_name_is_not_file_and_folder() {
        for (names, rule) in [
            (&["a", "a/b"][..], Some("file-or-folder")),
            (&["a/b/c", "a-b", "a.c", "a"], Some("file-or-folder")),
            (&["x/y", "x/y/z/w", "x/y-", "x/y."], Some("file-or-folder")),
            (&["a/b", "a/"], None),
            (&["a/", "a/b/", "a/b/c", "a-b", "ab/c"], None),
            (&["output-1", "output-10", "output-1-/x"], None),
            (&["a", "a//"], Some("file-or-folder")),
            (&["a", "a/"], Some("name-unique")),
            (&["a/b", "c", "a/b"], Some("name-unique")),
            (&[], None),
        ] {
            let checked = check_places(names.iter().copied());
            assert_eq!(rule_of(checked), rule, "{names:?}");
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
