//! Finds objects that metadata name, also under the names that file systems, archivers and download
//! tools have given them.
//!
//! An object under exactly the name that the metadata give goes first. Another one is taken only
//! where it is the only one that may be meant, and nothing else may mean it: whether it holds the
//! right bytes is proved later, by checksums, counts and keys.

use std::collections::{BTreeMap, HashMap};

use icu_normalizer::ComposingNormalizerBorrowed;
use percent_encoding::percent_decode_str;

use super::{Listing, base, below, folder, stays_inside};

/// An object that metadata name, and that is not stored under that name.
#[derive(Debug, Clone)]
pub(super) struct MissingObject<'a> {
    /// The folder of the completion marker.
    pub(super) around: &'a str,
    /// What a tool that writes `_` for `/` has put before the path, by the name of the completion marker.
    pub(super) prefixes: &'a [String],
    /// The path that the metadata give, below the folder of the completion marker.
    pub(super) path: String,
}

/// What was found for a [`MissingObject`] object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Match<'a> {
    /// The only object that may be meant.
    One(&'a str),
    /// Objects that may be meant, some of them.
    Doubtful(Vec<&'a str>),
    /// No object.
    Absent,
}

/// Finds the objects among those that no export has claimed. Gives a match for each, in their
/// order.
pub(super) fn locate<'a>(view: &Listing<'a>, wanted: &[MissingObject<'_>]) -> Vec<Match<'a>> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let index = NameIndex::new(view);
    let mut matches: Vec<Match<'a>> = wanted
        .iter()
        .map(|wanted| index.find(view, wanted))
        .collect();
    // Two files of an export that was copied without its folders may have had the name of one
    // object.
    let mut takers: HashMap<&str, usize> = HashMap::new();
    for found in &matches {
        if let Match::One(name) = found {
            *takers.entry(name).or_default() += 1;
        }
    }
    for found in &mut matches {
        if let Match::One(name) = *found
            && takers.get(name).is_some_and(|takers| *takers > 1)
        {
            *found = Match::Doubtful(vec![name]);
        }
    }
    matches
}

/// Unclaimed objects by their [`skeleton`], and by that of the name that they are a copy of.
struct NameIndex<'a> {
    by_skeleton: BTreeMap<String, Vec<&'a str>>,
    by_original: HashMap<String, Vec<&'a str>>,
}

impl<'a> NameIndex<'a> {
    fn new(view: &Listing<'a>) -> Self {
        let mut index = NameIndex {
            by_skeleton: BTreeMap::new(),
            by_original: HashMap::new(),
        };
        for name in view.unclaimed(|_| true) {
            index
                .by_skeleton
                .entry(skeleton(name))
                .or_default()
                .push(name);
            if let Some(original) = original_of(base(name)) {
                index
                    .by_original
                    .entry(skeleton(&below(folder(name), &original)))
                    .or_default()
                    .push(name);
            }
        }
        index
    }

    fn find(&self, view: &Listing<'a>, wanted: &MissingObject<'_>) -> Match<'a> {
        // Emulators on Windows write backslashes between folders.
        if wanted.path.contains('\\') {
            let path = wanted.path.replace('\\', "/");
            let named = view
                .objects
                .get_key_value(below(wanted.around, &path).as_str())
                .map(|(name, _)| *name);
            if let Some(name) = named.filter(|name| stays_inside(&path) && !view.is_claimed(name)) {
                return Match::One(name);
            }
        }
        let (path, around) = (
            skeleton(&wanted.path),
            if wanted.around.is_empty() {
                String::new()
            } else {
                skeleton(wanted.around) + "_"
            },
        );
        let last = skeleton(base(&wanted.path));
        let names = [format!("{around}{path}")]
            .into_iter()
            .chain(
                wanted
                    .prefixes
                    .iter()
                    .map(|prefix| format!("{around}{prefix}{path}")),
            )
            .chain([format!("{around}{last}")]);
        let as_named = names.filter_map(|name| self.by_skeleton.get(&name));
        let copies = self.by_original.get(&format!("{around}{path}"));
        match as_named.chain(copies).next().map(Vec::as_slice) {
            Some([only]) => Match::One(only),
            Some(several) => Match::Doubtful(several.iter().take(2).copied().collect()),
            None => Match::Absent,
        }
    }
}

/// The names below a flat prefix that end like an output, among those that no export has claimed.
pub(super) fn outputs_with_prefixes<'a>(
    view: &Listing<'a>,
    prefixes: &[(String, usize)],
) -> Vec<(&'a str, usize)> {
    let mut found = Vec::new();
    if prefixes.is_empty() {
        return found;
    }
    let index = NameIndex::new(view);
    for (prefix, export) in prefixes {
        let with_prefix = index
            .by_skeleton
            .range(prefix.clone()..)
            .take_while(|(name, _)| name.starts_with(prefix));
        let outputs = with_prefix.filter(|(name, _)| {
            name.rsplit_once("_output_").is_some_and(|(_, number)| {
                !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
            })
        });
        found.extend(outputs.flat_map(|(_, names)| names.iter().map(|name| (*name, *export))));
    }
    found
}

/// What stays the same of a name, whatever tool has copied it: letters are composed, escapes are
/// undone, and all that some file system cannot hold is `_`, as is `/`, which some download tools
/// cannot.
pub(super) fn skeleton(name: &str) -> String {
    let decoded = percent_decode_str(name)
        .decode_utf8()
        .unwrap_or(name.into());
    let composed = ComposingNormalizerBorrowed::new_nfc().normalize(&decoded);
    let mut skeleton = String::with_capacity(composed.len());
    for (number, segment) in composed.split(['/', '\\']).enumerate() {
        if number > 0 {
            skeleton.push('_');
        }
        // Windows drops dots and blanks at the end of a name.
        skeleton.extend(segment.trim_end_matches(['.', ' ']).chars().map(fold));
    }
    skeleton
}

/// A character as every file system can hold it.
fn fold(c: char) -> char {
    let code = u32::from(c);
    let ascii = match code {
        // Samba and the Windows Subsystem for Linux move what Windows cannot hold into the private
        // use area, rclone into the full-width forms.
        0xf001..=0xf07f => char::from_u32(code - 0xf000),
        0xff01..=0xff5e => char::from_u32(code - 0xfee0),
        0x2400..=0x2420 => char::from_u32(code - 0x2400),
        // Letters that look like a colon.
        0xa789 | 0x2236 => Some(':'),
        _ => None,
    };
    match ascii.unwrap_or(c) {
        '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | ' ' | '+' | '-' => '_',
        c if c.is_control() => '_',
        c => c,
    }
}

/// The name that a file is a copy of by its own name, such as `output-0` for `output-0 (1)`,
/// `output-0 - Copy` and `Copy of output-0`.
pub(super) fn original_of(name: &str) -> Option<String> {
    const ENDINGS: [&str; 4] = [
        ".overall_export_metadata",
        ".export_metadata",
        ".backup_info",
        "",
    ];
    if let Some(original) = name.strip_prefix("Copy of ") {
        return Some(original.to_owned());
    }
    // The mark of a copy stands before the ending, or after it where the ending is not known as
    // one.
    ENDINGS
        .into_iter()
        .filter_map(|ending| Some((name.strip_suffix(ending)?, ending)))
        .find_map(|(stem, ending)| {
            let original = without_copy_mark(stem)?;
            Some(format!(
                "{}{ending}",
                without_copy_mark(original).unwrap_or(original)
            ))
        })
}

fn without_copy_mark(stem: &str) -> Option<&str> {
    let marks = [
        "~", " - Copy", "-Copy", "-copy", " copy", " Copy", "_copy", ".copy", ".bak", ".orig",
    ];
    let numbered = || {
        let unnumbered = stem.trim_end_matches(|c: char| c.is_ascii_digit());
        unnumbered
            .strip_suffix([' ', '.'])
            .filter(|_| unnumbered.len() < stem.len())
    };
    let bracketed = || {
        stem.strip_suffix(')')
            .and_then(|stem| stem.rsplit_once('('))
            .map(|(stem, _)| stem.trim_end_matches(' '))
    };
    marks
        .into_iter()
        .find_map(|mark| stem.strip_suffix(mark))
        .or_else(bracketed)
        .or_else(numbered)
        .filter(|original| !original.is_empty())
}

/// How a tool that writes `_` for `/` has put the folders of an export before its file names:
/// `backups_NAME_` for a completion marker that is called `backups_NAME_NAME`, each with NAME. Several
/// readings are possible where a name repeats itself.
pub(super) fn flat_prefixes(mark: &str) -> Vec<(String, String)> {
    let flat = skeleton(mark);
    let divide = |(at, _): (usize, &str)| {
        let (before, name) = (flat.get(..at)?, flat.get(at + 1..)?);
        let around = before
            .strip_suffix(name)
            .filter(|around| !name.is_empty() && (around.is_empty() || around.ends_with('_')))?;
        // The name as it is written in the mark, where nothing but single characters was changed.
        let is_same_len = flat.chars().count() == mark.chars().count();
        let written: String = mark
            .chars()
            .skip(around.chars().count() + name.chars().count() + 1)
            .collect();
        Some((
            format!("{before}_"),
            if is_same_len {
                written
            } else {
                name.to_owned()
            },
        ))
    };
    flat.match_indices('_').filter_map(divide).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skeletons_outlive_every_tool() {
        let name = "backups/2024-01-02T03:04:05_678/kind_Größe: a\\b?/output-0";
        for copied in [
            "backups/2024-01-02T03_04_05_678/kind_Größe_ a_b_/output-0",
            "backups/2024-01-02T03-04-05_678/kind_Gro\u{308}ße: a\\b?/output-0",
            "backups/2024-01-02T03%3A04%3A05_678/kind_Gr%C3%B6%C3%9Fe%3A%20a%5Cb%3F/output-0",
            "backups\\2024-01-02T03\u{f03a}04\u{f03a}05_678\\kind_Größe\u{f03a} a\u{f05c}b\u{f03f}\\output-0",
            "backups/2024-01-02T03：04：05_678/kind_Größe： a＼b？/output-0",
            "backups_2024-01-02T03_04_05_678_kind_Größe_ a_b__output-0",
        ] {
            assert_eq!(skeleton(copied), skeleton(name), "{copied}");
        }
        assert_ne!(skeleton("kind_A/output-0"), skeleton("kind_A/output-1"));
    }

    #[test]
    fn copies_name_their_original() {
        for (copy, original) in [
            ("output-0 (1)", "output-0"),
            ("output-10(2)", "output-10"),
            ("output-0.1", "output-0"),
            ("output-0 2", "output-0"),
            ("output-0 - Copy", "output-0"),
            ("output-0 - Copy (2)", "output-0"),
            ("output-0-copy", "output-0"),
            ("output-0~", "output-0"),
            ("Copy of output-0", "output-0"),
            ("x (1).overall_export_metadata", "x.overall_export_metadata"),
            ("x.overall_export_metadata (1)", "x.overall_export_metadata"),
            (
                "x (Anna's conflicted copy).export_metadata",
                "x.export_metadata",
            ),
        ] {
            assert_eq!(original_of(copy).as_deref(), Some(original), "{copy}");
        }
        for original in [
            "output-0",
            "output-10",
            "x.overall_export_metadata",
            "~",
            "(1)",
            "",
        ] {
            assert_eq!(original_of(original), None, "{original}");
        }
    }

    #[test]
    fn flat_names_keep_the_name_of_their_folder() {
        let of = |mark: &str| flat_prefixes(mark);
        assert_eq!(
            of("backups_User_User"),
            [("backups_User_".to_owned(), "User".to_owned())]
        );
        assert_eq!(of("a\\b\\b"), [("a_b_".to_owned(), "b".to_owned())]);
        let stamp = "2024-01-02T03:04:05_678";
        assert_eq!(
            of(&format!("{stamp}_{stamp}")),
            [("2024_01_02T03_04_05_678_".to_owned(), stamp.to_owned())]
        );
        assert_eq!(of("User"), []);
    }
}
