//! Profiles of `kindpack.toml`, order files, and lists of redaction rules: texts that people keep
//! beside their archives.
//!
//! Knows how they are written, and says in which line one is wrong. It reads no file, and whether a
//! choice fits is the planner's to say.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::model::{Namespace, Sample, Selector, TargetSpec, nearest_name};
use crate::plan::{DependencyRule, Hooks, NamespaceMap, OnExisting, OrderFile, WriteMethod};
use crate::store::is_bucket_address;
use crate::transform::redact::RedactRule;

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {}{found}", .line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct ConfigError {
    /// The file, as it was named.
    file: String,
    /// Counts from 1. None where something is missing from the whole file.
    line: Option<usize>,
    /// What is wrong, on one line.
    found: String,
}

/// The choices of a profile. What is left out is for the command line to say, or for the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// Where the restore goes.
    pub target: Option<TargetSpec>,
    /// As `--only`.
    pub only: Vec<Selector>,
    /// As `--exclude`.
    pub exclude: Vec<Selector>,
    /// As `--first`.
    pub first: Vec<Selector>,
    /// As `--last`.
    pub last: Vec<Selector>,
    /// As `--depends-on`.
    pub depends_on: Vec<DependencyRule>,
    /// As `--map-namespace`.
    pub map_namespaces: Vec<NamespaceMap>,
    /// As `--redact` with a rule.
    pub redact: Vec<RedactRule>,
    /// A file of rules.
    pub redact_file: Option<PathBuf>,
    /// As `--on-existing`.
    pub on_existing: Option<OnExisting>,
    /// As `--via`.
    pub via: Option<WriteMethod>,
    /// As `--staging`.
    pub staging: Option<String>,
    /// As `--sample` or `--limit`.
    pub sample: Option<Sample>,
    /// As `--with-dependencies`.
    pub with_dependencies: bool,
    /// As `--order-file`.
    pub order_file: Option<PathBuf>,
    /// As `--before-step`, `--after-step` and `--after-all`.
    pub hooks: Hooks,
}

/// Reads an order file: `first`, `last` and `after`, each a list of what the option of that name
/// takes.
///
/// # Errors
/// When anything else stands there.
pub fn order(text: &str, file: &str) -> Result<OrderFile, ConfigError> {
    let WrittenOrder {
        first,
        last,
        depends_on,
    } = read(text, file)?;
    Ok(OrderFile {
        file: file.to_owned(),
        first: values(first),
        last: values(last),
        depends_on: values(depends_on),
    })
}

/// Reads rules, one a line; lines that are empty or begin with `#` are none.
///
/// # Errors
/// At the first line that is no rule.
pub fn rules(text: &str, file: &str) -> Result<Vec<RedactRule>, ConfigError> {
    let lines = (1..)
        .zip(text.lines().map(str::trim))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| {
            line.parse()
                .map_err(|error: <RedactRule as FromStr>::Err| ConfigError {
                    file: file.to_owned(),
                    line: Some(number),
                    found: error.to_string(),
                })
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOrder {
    #[serde(default)]
    first: Vec<Parsed<Selector>>,
    #[serde(default)]
    last: Vec<Parsed<Selector>>,
    #[serde(default)]
    depends_on: Vec<Parsed<DependencyRule>>,
}

/// A `[profile.NAME]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenProfile {
    target: Option<Parsed<TargetSpec>>,
    #[serde(default)]
    only: Vec<Parsed<Selector>>,
    #[serde(default)]
    exclude: Vec<Parsed<Selector>>,
    #[serde(default)]
    first: Vec<Parsed<Selector>>,
    #[serde(default)]
    last: Vec<Parsed<Selector>>,
    #[serde(default)]
    depends_on: Vec<Parsed<DependencyRule>>,
    #[serde(default)]
    map_namespaces: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    redact: Vec<Parsed<RedactRule>>,
    redact_file: Option<PathBuf>,
    on_existing: Option<Parsed<OnExisting>>,
    via: Option<Parsed<WriteMethod>>,
    staging: Option<String>,
    sample: Option<Spanned<Parsed<Sample>>>,
    limit: Option<Spanned<u64>>,
    #[serde(default)]
    with_dependencies: bool,
    order_file: Option<PathBuf>,
    before_step: Option<String>,
    after_step: Option<String>,
    after_all: Option<String>,
    confirm: Option<Spanned<IgnoredAny>>,
    disaster_recovery: Option<Spanned<IgnoredAny>>,
}

/// Where in the text something is wrong, and what.
pub type ConfigFault = (usize, String);

impl WrittenProfile {
    /// The profile. Paths in it, those of targets and of the staging folder too, lead on from
    /// `folder`, where the configuration is.
    ///
    /// # Errors
    /// Where choices contradict one another.
    pub fn finish(self, folder: &Path) -> Result<Profile, ConfigFault> {
        check_typed_each_time("confirm", "--confirm PROJECT", self.confirm.as_ref())?;
        check_typed_each_time(
            "disaster_recovery",
            "--disaster-recovery",
            self.disaster_recovery.as_ref(),
        )?;
        let sample = sample(self.sample, self.limit)?;
        let maps = self.map_namespaces.into_iter();
        let map_namespaces = maps
            .map(|(from, to)| namespace_map(&from, &to))
            .collect::<Result<_, ConfigFault>>()?;
        let below = |path: String| folder.join(path).to_string_lossy().into_owned();
        Ok(Profile {
            target: self.target.map(|Parsed(target)| match target.path() {
                Some(path) if !is_bucket_address(path) => {
                    let path = below(path.to_owned());
                    target.with_path(path)
                }
                _ => target,
            }),
            only: values(self.only),
            exclude: values(self.exclude),
            first: values(self.first),
            last: values(self.last),
            depends_on: values(self.depends_on),
            map_namespaces,
            redact: values(self.redact),
            redact_file: self.redact_file.map(|path| folder.join(path)),
            on_existing: self.on_existing.map(|Parsed(policy)| policy),
            via: self.via.map(|Parsed(via)| via),
            staging: self.staging.map(|staging| {
                if is_bucket_address(&staging) {
                    staging
                } else {
                    below(staging)
                }
            }),
            sample,
            with_dependencies: self.with_dependencies,
            order_file: self.order_file.map(|path| folder.join(path)),
            hooks: Hooks {
                before_step: self.before_step,
                after_step: self.after_step,
                after_all: self.after_all,
            },
        })
    }
}

/// Some declarations must be typed each time, so a file cannot hold them.
fn check_typed_each_time(
    key: &str,
    option: &str,
    found: Option<&Spanned<IgnoredAny>>,
) -> Result<(), ConfigFault> {
    match found {
        None => Ok(()),
        Some(found) => Err((
            found.span().start,
            format!("{key} must be typed as {option} each time, so a profile cannot set it"),
        )),
    }
}

/// A share or a limit, each by its own key.
fn sample(
    share: Option<Spanned<Parsed<Sample>>>,
    limit: Option<Spanned<u64>>,
) -> Result<Option<Sample>, ConfigFault> {
    match (share, limit) {
        (Some(_), Some(limit)) => Err((
            limit.span().start,
            "sample and limit exclude each other".to_owned(),
        )),
        (Some(share), None) => match (share.span().start, share.into_inner().0) {
            (at, Sample::Limit(limit)) => Err((
                at,
                format!("sample: {limit} has no %: write \"{limit}%\" or limit = {limit}"),
            )),
            (_, share) => Ok(Some(share)),
        },
        (None, Some(limit)) if *limit.get_ref() == 0 => Err((
            limit.span().start,
            "limit: 0 is too small: write a number from 1".to_owned(),
        )),
        (None, limit) => Ok(limit.map(|limit| Sample::Limit(limit.into_inner()))),
    }
}

fn namespace_map(from: &str, to: &Spanned<String>) -> Result<NamespaceMap, ConfigFault> {
    let map = format!("{}={}", from, to.get_ref())
        .parse::<NamespaceMap>()
        .map_err(|error| (to.span().start, error.to_string()))?;
    // A name that holds `=` would be divided elsewhere than it was written.
    if map.from == Namespace::parse_display(from) {
        Ok(map)
    } else {
        Err((to.span().start, format!("{from:?} is not a namespace")))
    }
}

/// Something that is read from its spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed<T>(pub T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map(Parsed)
            .map_err(D::Error::custom)
    }
}

/// What was read from its spelling.
pub fn values<T>(spelled: Vec<Parsed<T>>) -> Vec<T> {
    spelled.into_iter().map(|Parsed(value)| value).collect()
}

/// Reads a text that has exactly the keys of `T`.
///
/// # Errors
/// With the line of what is wrong, and the nearest known name of an unknown key.
pub fn read<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        let plain = plain_fault(&message, key_before(text, at));
        let found = plain.unwrap_or_else(|| with_nearest_name(message));
        ConfigError::at(text, file, (at, found))
    })
}

/// What is wrong with a value or a bracket, in plain words, where the reader says it in those of
/// Rust.
fn plain_fault(message: &str, key: Option<&str>) -> Option<String> {
    if let Some(bracket) = open_bracket(message) {
        return Some(bracket.to_owned());
    }
    let mut starts = ["invalid type: ", "invalid value: "].into_iter();
    let rest = starts.find_map(|start| message.strip_prefix(start))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let (found, expected) = (plain_value(found), plain_type(expected)?);
    let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
    let list = (expected == LIST && found.starts_with('"')).then(|| format!(": write [{found}]"));
    let list = list.unwrap_or_default();
    Some(format!("{key}{found} is not {expected}{list}"))
}

/// What a bracket lacks that is not closed.
fn open_bracket(message: &str) -> Option<&'static str> {
    let faults = [
        ("unclosed table", "the [ of this table has no ]"),
        ("unclosed array", "the [ of this list has no ]"),
        ("unclosed inline table", "the { of this table has no }"),
    ];
    let mut faults = faults.into_iter();
    faults.find_map(|(start, fault)| message.starts_with(start).then_some(fault))
}

/// What a list of values is called.
const LIST: &str = "a list";

/// What a type of Rust is called.
fn plain_type(expected: &str) -> Option<&'static str> {
    Some(match expected {
        "a boolean" => "true or false",
        "a sequence" => LIST,
        "a map" => "a table",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        _ if expected.starts_with("a nonzero ") => "a whole number of at least 1",
        _ if expected.starts_with("struct ") => "a table",
        _ if expected.ends_with("string") => "a text in quotes",
        _ => return None,
    })
}

/// A value as it is written.
fn plain_value(found: &str) -> String {
    match found.split_once(' ') {
        Some(("string", text)) => text.to_owned(),
        Some(_) if found.contains('`') => found.split('`').nth(1).unwrap_or(found).to_owned(),
        _ => match found {
            "sequence" => LIST.to_owned(),
            "map" => "a table".to_owned(),
            found => found.to_owned(),
        },
    }
}

/// The key of the value at a place; none of a table, whose value is somewhere in it.
fn key_before(text: &str, at: usize) -> Option<&str> {
    if text.get(at..)?.starts_with('{') {
        return None;
    }
    let line = text.get(..at)?.rsplit('\n').next()?;
    let (before, _) = line.rsplit_once('=')?;
    let key = before.rsplit(['{', ',']).next()?.trim();
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    (!key.is_empty() && key.chars().all(is_bare)).then_some(key)
}

impl ConfigError {
    /// An error at a place in a text.
    pub fn at(text: &str, file: &str, (at, found): ConfigFault) -> Self {
        let before = text.bytes().take(at);
        ConfigError {
            file: file.to_owned(),
            line: Some(before.filter(|byte| *byte == b'\n').count() + 1),
            found,
        }
    }

    /// An error of something that the whole text lacks.
    pub fn missing(file: &str, found: String) -> Self {
        ConfigError {
            file: file.to_owned(),
            line: None,
            found,
        }
    }
}

/// What serde says of an unknown name, with the known one that comes next to it.
fn with_nearest_name(message: String) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let Some(unknown) = names.next().filter(|_| message.starts_with("unknown ")) else {
        return message;
    };
    match nearest_name(unknown, names) {
        Some(nearest) if message.starts_with("unknown field") => {
            format!("unknown key `{unknown}`; did you mean `{nearest}`?")
        }
        Some(nearest) => format!("unknown value `{unknown}`; did you mean `{nearest}`?"),
        None => message.replacen("unknown field", "unknown key", 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_file_holds_only_its_three_lists() {
        let order = |text: &str| order(text, "order.toml").map_err(|error| error.to_string());
        let read = order("first = [\"A\"]\nlast = [\"B\", \"C\"]\ndepends_on = [\"A=B\"]").unwrap();
        assert_eq!(
            (
                read.file.as_str(),
                read.first.len(),
                read.last.len(),
                read.depends_on.len()
            ),
            ("order.toml", 1, 2, 1)
        );
        assert!(order("").is_ok());
        for (wrong, with) in [
            ("frist = []", "`frist`"),
            ("\nfirst = \"A\"", "line 2"),
            ("[depends_on]\nA = [\"B\"]", "line 1"),
            ("depends_on = [\"A\"]", "A=B"),
        ] {
            let error = order(wrong).unwrap_err();
            assert!(
                error.starts_with("order.toml: line ") && error.contains(with),
                "{wrong}: {error}"
            );
        }
    }

    #[test]
    fn rule_list_errors_name_the_line() {
        assert_eq!(
            rules(
                "# mails\nCustomer.email=mask\n\n  *.phone=null  \n",
                "redact.txt"
            )
            .unwrap()
            .len(),
            2
        );
        assert!(
            rules("Customer.email=mask\nCustomer\n", "redact.txt")
                .unwrap_err()
                .to_string()
                .starts_with("redact.txt: line 2: ")
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            _ = order(&text, "order.toml");
            _ = rules(&text, "redact.txt");
        }
    }
}
