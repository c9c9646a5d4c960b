//! The rules that an archive must keep, by name, and the refusal that says which one was broken.
//!
//! Knows no bytes: what breaks a rule is found elsewhere in `archive`.

use std::fmt;

macro_rules! rules {
    ($($rule:ident $name:literal $sentence:literal)*) => {
        /// A rule of the container. Names are stable: scripts and tests may rely on them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Rule {
            $(#[doc = $sentence] $rule,)*
        }

        impl Rule {
            /// Every rule, in the order in which an archive is read.
            #[cfg(test)]
            const ALL: &[Rule] = &[$(Rule::$rule,)*];

            /// The stable name, in kebab-case.
            pub fn name(self) -> &'static str {
                match self {
                    $(Rule::$rule => $name,)*
                }
            }
        }
    };
}

rules! {
    EndRecord "end-record" "An end record ends exactly where the archive ends."
    OneEndRecord "one-end-record" "Only one end record fits the end of the archive."
    NoComment "no-comment" "An archive of kindpack has no comment."
    OneDisk "one-disk" "The archive is on one disk."
    Zip64End "zip64-end" "ZIP64 end record and locator come right before the end record and agree with it."
    DirectoryPlace "directory-place" "The directory ends where the end records begin."
    DirectoryLen "directory-len" "The directory is no longer than 1 GiB and long enough for the entries that are promised."
    DirectoryHeader "directory-header" "The directory is made of whole headers, as many as are promised, and nothing else."
    NameLen "name-len" "A name has 1 to 65,535 bytes."
    PathLen "path-len" "A name is no longer than file systems take: 4,095 bytes, and in a zip that kindpack did not make 255 UTF-16 units between two `/`."
    NameUtf8 "name-utf8" "A name that is said to be UTF-8 is UTF-8."
    NameControl "name-control" "A name holds no control character."
    NameRelative "name-relative" "A name is relative."
    NameSegment "name-segment" "A name holds no segment that is empty, `.` or `..`."
    NameBackslash "name-backslash" "A name holds no backslash, which some readers take for a separator."
    NameUnique "name-unique" "No two entries have the same name."
    FileOrFolder "file-or-folder" "No name is both a file and a folder."
    OneName "one-name" "An entry has one name: no extra field gives it another."
    Flags "flags" "No flag is set but the level, the descriptor and UTF-8: nothing is encrypted or patched."
    Method "method" "An entry is stored or deflated."
    DescriptorUse "descriptor-use" "Only a deflated entry has a descriptor: the end of a stored one could not be seen."
    StoredLen "stored-len" "A stored entry has the same length twice."
    ExtraField "extra-field" "Extra fields are whole, and none comes twice."
    Zip64Field "zip64-field" "The ZIP64 field holds exactly the numbers that are left to it."
    FileType "file-type" "An entry is a regular file or a directory: no link, no device, and its name says which."
    EmptyDirectory "empty-directory" "The entry of a directory has no content."
    AsSealed "as-sealed" "In an archive of kindpack every header is written as kindpack writes it."
    EntryOrder "entry-order" "In an archive of kindpack the entries are in the order of the directory."
    NoGap "no-gap" "Nothing is before, between or after the entries."
    NoOverlap "no-overlap" "No two entries share bytes, and none reaches into the directory."
    LocalHeader "local-header" "A local header stands where the directory says."
    LocalName "local-name" "The local header has the name that the directory has."
    LocalAgrees "local-agrees" "The local header says what the directory says."
    Descriptor "descriptor" "The descriptor says what the directory says."
}

/// How much is asked of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// What [`ZipWriter`](super::ZipWriter) writes and nothing else: no comment, no directories, entries
    /// in order, every header byte for byte.
    OwnFormat,
    /// Any zip that all readers understand alike: stored or deflated entries that fill the archive.
    AnyZip,
}

/// A broken rule: which one, of which entry, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The entry that breaks it; `None` where the archive as a whole does.
    pub entry: Option<String>,
    /// What breaks the rule, as a sentence.
    pub fault: String,
}

impl Violation {
    pub(super) fn archive(rule: Rule, fault: impl fmt::Display) -> Self {
        Violation {
            rule,
            entry: None,
            fault: fault.to_string(),
        }
    }

    pub(super) fn entry(rule: Rule, entry: &str, fault: impl fmt::Display) -> Self {
        Violation {
            rule,
            entry: Some(entry.to_owned()),
            fault: fault.to_string(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.entry {
            write!(f, "entry {}: ", DisplayName(name))?;
        }
        write!(f, "{} [{}]", self.fault, self.rule.name())
    }
}

impl std::error::Error for Violation {}

/// What a stored entry does whose data have no visible end.
pub(super) const STORED_DESCRIPTOR: &str = "it is stored and has a descriptor";

/// What two entries do that would be one file.
pub(super) const NAME_TAKEN: &str = "another entry has the same name";

/// A name as people may see it: a hostile one must neither steer a terminal nor fill the screen.
pub(super) struct DisplayName<'a>(pub(super) &'a str);

const SHOWN_CHARS: usize = 200;

impl fmt::Display for DisplayName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(SHOWN_CHARS) {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?
            } else {
                write!(f, "{c}")?
            }
        }
        if chars.next().is_some() {
            f.write_str("…")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> =
            Rule::ALL.iter().map(|rule| rule.name()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
        for rule in Rule::ALL {
            assert!(
                rule.name()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{rule:?}"
            );
        }
    }

    #[test]
    fn violation_names_entry_fault_and_rule() {
        let violation = Violation::entry(Rule::Method, "a\u{1b}[2J", "method 12 is not read");
        assert_eq!(
            violation.to_string(),
            r"entry a\u{1b}[2J: method 12 is not read [method]"
        );
        let violation = Violation::archive(Rule::EndRecord, "there is no end record");
        assert_eq!(violation.to_string(), "there is no end record [end-record]");
        let long = Violation::entry(Rule::NameLen, &"x".repeat(70_000), "");
        assert!(long.to_string().len() < 300);
    }
}
