//! How a target is spelled: `emulator:`, `datastore:`, `dir:` or `ndjson:`, as `docs/cli.md` lists
//! them.
//!
//! Knows the words only. It reaches no target and does not ask whether one is there.

use std::fmt;
use std::str::FromStr;

use serde_with::{DeserializeFromStr, SerializeDisplay};

use super::address::{host_and_port, host_and_port_fault, without_user};
use super::nearest::nearest_name;

/// Where a restore goes.
///
/// ```
/// use kindpack::model::TargetSpec;
/// let target: TargetSpec = "emulator:shop-test@localhost:8081".parse().unwrap();
/// assert_eq!(target, TargetSpec::Emulator { project: "shop-test".into(), host: Some("localhost:8081".into()) });
/// assert_eq!(target.to_string(), "emulator:shop-test@localhost:8081");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, SerializeDisplay, DeserializeFromStr)]
pub enum TargetSpec {
    /// A Datastore emulator: `emulator:PROJECT[@HOST:PORT]`.
    Emulator {
        /// The project in the emulator; none has to be created first.
        project: String,
        /// `HOST:PORT`; `None` until the planner fills it in from the environment.
        host: Option<String>,
    },
    /// The real service: `datastore:PROJECT[/DATABASE]`.
    Datastore {
        /// The project.
        project: String,
        /// A named database; `None` is the default one.
        database: Option<String>,
    },
    /// Export folders below a path: `dir:PATH`.
    Dir(String),
    /// One file of entities per kind below a path: `ndjson:PATH`.
    Ndjson(String),
}

/// A target that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a target: {fault}")]
pub struct TargetSpecError {
    /// All of it, as given, without a password.
    pub text: String,
    /// What is wrong with it, and what to write.
    pub fault: String,
}

const DEFAULT_DATABASE: &str = "(default)";

/// What stands at a target. What a plan or a restore may do depends on this alone, not on how the
/// target is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetPlace<'a> {
    /// A database of the real service.
    Service {
        /// The project.
        project: &'a str,
        /// Empty for the default one.
        database: &'a str,
    },
    /// A project in an emulator.
    Emulator {
        /// The project.
        project: &'a str,
        /// `HOST:PORT`, once it is known.
        host: Option<&'a str>,
    },
    /// Files of this machine, each written whole, once.
    Folder {
        /// The folder.
        path: &'a str,
    },
}

impl TargetSpec {
    /// What each form begins with.
    pub const PREFIXES: [&'static str; 4] = ["emulator:", "datastore:", "dir:", "ndjson:"];

    /// The forms, as people read them.
    pub const FORMS: &'static str =
        "emulator:PROJECT[@HOST:PORT], datastore:PROJECT[/DATABASE], dir:PATH or ndjson:PATH";

    /// What stands there.
    pub fn place(&self) -> TargetPlace<'_> {
        match self {
            TargetSpec::Emulator { project, host } => TargetPlace::Emulator {
                project,
                host: host.as_deref(),
            },
            TargetSpec::Datastore { project, database } => TargetPlace::Service {
                project,
                database: database.as_deref().unwrap_or(""),
            },
            TargetSpec::Dir(path) | TargetSpec::Ndjson(path) => TargetPlace::Folder { path },
        }
    }

    /// Whether entities get into a database that others may use.
    pub fn is_real_service(&self) -> bool {
        matches!(self.place(), TargetPlace::Service { .. })
    }

    /// The project that entities get into; a folder has none.
    pub fn project(&self) -> Option<&str> {
        match self.place() {
            TargetPlace::Service { project, .. } | TargetPlace::Emulator { project, .. } => {
                Some(project)
            }
            TargetPlace::Folder { .. } => None,
        }
    }

    /// The address of an emulator, once it is known.
    pub fn emulator_host(&self) -> Option<&str> {
        match self.place() {
            TargetPlace::Emulator { host, .. } => host,
            _ => None,
        }
    }

    /// The folder that files are written into; a Datastore has none.
    pub fn path(&self) -> Option<&str> {
        match self.place() {
            TargetPlace::Folder { path } => Some(path),
            _ => None,
        }
    }

    /// The same form of target in another folder; a Datastore stays as it is.
    #[must_use]
    pub fn with_path(self, path: String) -> Self {
        match self {
            TargetSpec::Dir(_) => TargetSpec::Dir(path),
            TargetSpec::Ndjson(_) => TargetSpec::Ndjson(path),
            datastore => datastore,
        }
    }
}

impl FromStr for TargetSpec {
    type Err = TargetSpecError;

    fn from_str(text: &str) -> Result<Self, TargetSpecError> {
        parse(text).map_err(|fault| TargetSpecError {
            text: without_password(text),
            fault,
        })
    }
}

/// A target as it may be shown: a password in an address is not repeated.
fn without_password(text: &str) -> String {
    match text.split_once('@') {
        Some((project, host)) => format!("{project}@{}", without_user(host)),
        None => text.to_owned(),
    }
}

fn parse(text: &str) -> Result<TargetSpec, SpecFault> {
    let (word, rest) = text.split_once(':').unwrap_or((text, ""));
    match word {
        "emulator" => parse_emulator(rest),
        "datastore" => parse_service(rest),
        "dir" => parse_path(word, rest).map(TargetSpec::Dir),
        "ndjson" => parse_path(word, rest).map(TargetSpec::Ndjson),
        _ => Err(unknown_form(text)),
    }
}

fn parse_emulator(text: &str) -> Result<TargetSpec, SpecFault> {
    let (project, host) = split_optional(text, '@');
    check_project(project)?;
    if let (None, Some(host)) = (host, host_and_port(project)) {
        return Err(format!("write emulator:PROJECT@{host}"));
    }
    Ok(TargetSpec::Emulator {
        project: project.to_owned(),
        host: host.map(read_address).transpose()?,
    })
}

fn parse_service(text: &str) -> Result<TargetSpec, SpecFault> {
    let (project, database) = split_optional(text, '/');
    let database = database.filter(|database| *database != DEFAULT_DATABASE);
    check_project(project)?;
    check_real_project(project)?;
    database.map_or(Ok(()), check_database)?;
    Ok(TargetSpec::Datastore {
        project: project.to_owned(),
        database: database.map(str::to_owned),
    })
}

fn parse_path(word: &str, text: &str) -> Result<String, SpecFault> {
    if text.starts_with('~') {
        let home = text.strip_prefix("~/").unwrap_or("…");
        return Err(format!(
            "the shell did not expand ~: write {word}:$HOME/{home}, or {word}:./{text} if the name begins with ~"
        ));
    }
    if text.is_empty() {
        return Err("there is no path after the colon".to_owned());
    }
    Ok(text.to_owned())
}

/// The text before a separator, and the one after it where there is one.
fn split_optional(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((first, second)) => (first, Some(second)),
        None => (text, None),
    }
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetSpec::Emulator { project, host } => {
                write!(f, "emulator:{project}")?;
                write_optional(f, '@', host.as_deref())
            }
            TargetSpec::Datastore { project, database } => {
                write!(f, "datastore:{project}")?;
                write_optional(f, '/', database.as_deref())
            }
            TargetSpec::Dir(path) => write!(f, "dir:{path}"),
            TargetSpec::Ndjson(path) => write!(f, "ndjson:{path}"),
        }
    }
}

/// What [`split_optional`] takes off.
fn write_optional(f: &mut fmt::Formatter<'_>, separator: char, text: Option<&str>) -> fmt::Result {
    match text {
        Some(text) => write!(f, "{separator}{text}"),
        None => Ok(()),
    }
}

/// What is wrong with a text, and what to write.
type SpecFault = String;

/// The fault of a text that begins with none of the words: a target that was probably meant, or all
/// of the forms.
fn unknown_form(text: &str) -> SpecFault {
    let (word, rest) = text.split_once(':').unwrap_or(("", text));
    let lower = word.to_lowercase();
    let is_known = TargetSpec::PREFIXES.contains(&format!("{lower}:").as_str());
    match text {
        _ if is_known => format!("write {lower}:{rest}"),
        _ if text.starts_with("gs:") => {
            "a bucket is not a target; `kindpack extract ARCHIVE gs://BUCKET/NAME` writes there"
                .to_owned()
        }
        _ => match host_and_port(text) {
            Some(host) => format!("write emulator:PROJECT@{host} for an emulator"),
            None if text.starts_with('~') => {
                "write dir:$HOME/… or ndjson:$HOME/… for a folder".to_owned()
            }
            None if text.starts_with(['.', '/']) => {
                format!("write dir:{text} or ndjson:{text} for a folder")
            }
            None if word.is_empty() && check_real_project(text).is_ok() => {
                format!("write emulator:{text} or datastore:{text}")
            }
            None => match nearest_form(&lower) {
                Some(nearest) => format!("write {nearest}{rest}"),
                None => format!("write {}", TargetSpec::FORMS),
            },
        },
    }
}

/// The word that was probably meant, with its colon.
fn nearest_form(word: &str) -> Option<&'static str> {
    let known = TargetSpec::PREFIXES.map(|prefix| prefix.trim_end_matches(':'));
    let nearest = nearest_name(word, known)?;
    let mut prefixes = TargetSpec::PREFIXES.into_iter();
    prefixes.find(|prefix| prefix.trim_end_matches(':') == nearest)
}

/// Keeps out what would end a project's name in a target or in an address. Whether the project
/// exists is the service's to say.
fn check_project(project: &str) -> Result<(), SpecFault> {
    let ends_it = |c: char| {
        matches!(c, '/' | '@' | '?' | '#' | '%' | '\\') || c.is_whitespace() || c.is_control()
    };
    match project.chars().find(|c| ends_it(*c)) {
        Some(c) => Err(format!(
            "{project:?} is not a project id: it contains {}",
            spoken(c)
        )),
        None if project.is_empty() => Err("there is no project id".to_owned()),
        None => Ok(()),
    }
}

/// A character as a sentence names it.
fn spoken(c: char) -> String {
    match c {
        ' ' => "a space".to_owned(),
        c => format!("{c:?}"),
    }
}

/// What names a project of the real service: nothing that only looks like one of them, and no
/// number, behind which any project may stand.
fn check_real_project(project: &str) -> Result<(), SpecFault> {
    let (domain, id) = project.rsplit_once(':').unwrap_or(("", project));
    let id = id.rsplit_once('~').map_or(id, |(_, id)| id);
    let fits = |text: &str, also: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || also.contains(c))
    };
    // `projects/shop` is how Google's other tools name a project, and would be one called
    // `projects` here.
    if !fits(id, "-") || !fits(domain, "-.~") || id.is_empty() || id == "projects" {
        return Err(format!("{project:?} is not a project id such as shop-test"));
    }
    if id.bytes().all(|c| c.is_ascii_digit()) {
        Err(format!(
            "{project} is a project number: write the project id, such as shop-test"
        ))
    } else {
        Ok(())
    }
}

fn check_database(database: &str) -> Result<(), SpecFault> {
    let fits = !database.is_empty()
        && database
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if fits {
        Ok(())
    } else {
        Err(format!(
            "{database:?} is not a database id: one has letters, digits and '-'"
        ))
    }
}

/// The one form of an emulator's address.
pub(crate) fn read_address(address: &str) -> Result<String, SpecFault> {
    host_and_port(address).ok_or_else(|| host_and_port_fault(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TargetSpec, String> {
        text.parse()
            .map_err(|error: TargetSpecError| error.to_string())
    }

    #[test]
    fn every_target_form_round_trips() {
        for text in [
            "emulator:shop-test",
            "emulator:shop-test@localhost:8081",
            "emulator:demo@[::1]:8081",
            "emulator:example.com:shop@10.0.0.1:80",
            "datastore:shop",
            "datastore:example.com:shop",
            "datastore:shop/orders-2",
            "dir:out",
            "dir:/var/with space:and@signs",
            "ndjson:../öffentlich",
        ] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        assert_eq!(read("datastore:shop/(default)"), read("datastore:shop"));
    }

    #[test]
    fn invalid_target_is_refused_with_reason() {
        for (text, fault) in [
            ("emulator:", "there is no project id"),
            ("emulator:@localhost:1", "there is no project id"),
            (
                "emulator:localhost:8081",
                "write emulator:PROJECT@localhost:8081",
            ),
            ("emulator:shop@", "\"\" is not HOST:PORT"),
            ("emulator:shop@localhost", "write localhost:8081"),
            ("emulator:shop@:8081", "\":8081\" is not HOST:PORT"),
            ("emulator:shop@localhost:", "\"localhost:\" is not"),
            ("emulator:shop@localhost:0", "0 is not a port"),
            ("emulator:shop@localhost:65536", "65536 is not a port"),
            ("emulator:shop@https://localhost:80", "is not HOST:PORT"),
            ("emulator:shop@::1", "\"::1\" is not HOST:PORT"),
            ("emulator:shop@a:1@b:2", "\"…@b:2\" is not HOST:PORT"),
            ("datastore:shop/", "\"\" is not a database id"),
            ("datastore:shop/a/b", "\"a/b\" is not a database id"),
            ("datastore: shop", "it contains a space"),
            ("datastore:shop\n", "it contains '\\n'"),
            ("datastore:shop@localhost:1", "it contains '@'"),
            ("datastore:shop?alt=1", "it contains '?'"),
            ("datastore:shop.", "\"shop.\" is not a project id"),
            ("datastore:.shop", "\".shop\" is not a project id"),
            ("datastore:sh\u{43e}p", "is not a project id"),
            ("datastore:shop\u{200b}", "is not a project id"),
            ("datastore:123456789012", "12 is a project number"),
            ("datastore:s~", "\"s~\" is not a project id"),
            ("datastore:projects/shop", "\"projects\" is not a project"),
            ("datastore:example.com:", "is not a project id"),
            ("dir:", "there is no path after the colon"),
            ("dir:~/zr", "write dir:$HOME/zr, or dir:./~/zr if"),
            ("ndjson:~ann", "write ndjson:$HOME/…, or ndjson:./~ann if"),
            ("ndjson:", "there is no path after the colon"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(fault), "{text:?}: {error}");
        }
    }

    #[test]
    fn target_without_word_gets_the_right_one() {
        for (text, fault) in [
            ("", "write emulator:PROJECT[@HOST:PORT], "),
            ("shop test", "write emulator:PROJECT[@HOST:PORT], "),
            ("shop", "write emulator:shop or datastore:shop"),
            ("Datastore:shop", "write datastore:shop"),
            ("DIR:8081", "write dir:8081"),
            ("emulater:shop", "write emulator:shop"),
            ("localhost:8081", "write emulator:PROJECT@localhost:8081"),
            ("http://localhost:8081", "emulator:PROJECT@localhost:8081"),
            ("./out", "write dir:./out or ndjson:./out"),
            ("~/out", "write dir:$HOME/… or ndjson:$HOME/…"),
            ("gs://bucket/name", "`kindpack extract ARCHIVE gs://"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(fault), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_target_answers_where_entities_get_to() {
        let emulator: TargetSpec = "emulator:shop@localhost:8081".parse().unwrap();
        assert_eq!(emulator.project(), Some("shop"));
        assert_eq!(emulator.emulator_host(), Some("localhost:8081"));
        assert!(!emulator.is_real_service() && emulator.path().is_none());
        let service: TargetSpec = "datastore:shop/orders".parse().unwrap();
        assert!(service.is_real_service() && service.emulator_host().is_none());
        assert_eq!(service.clone().with_path("out".to_owned()), service);
        for text in ["dir:in", "ndjson:in"] {
            let folder: TargetSpec = text.parse().unwrap();
            assert_eq!((folder.path(), folder.project()), (Some("in"), None));
            let moved = folder.with_path("out".to_owned());
            assert_eq!(moved.to_string(), text.replace("in", "out"));
        }
    }

    #[test]
    fn an_address_is_kept_in_one_form() {
        for address in ["::1:8081", "[::1]:8081", "http://[::1]:8081/", " ::1:8081"] {
            assert_eq!(
                read(&format!("emulator:shop@{address}"))
                    .unwrap()
                    .to_string(),
                "emulator:shop@[::1]:8081"
            );
        }
        let refused = read("emulator:shop@user:secret@localhost:80").unwrap_err();
        assert!(!refused.contains("secret"), "{refused}");
        assert!(refused.contains("emulator:shop@"), "{refused}");
        assert!(refused.contains("localhost:80"), "{refused}");
        let refused = read("emulator:shop test").unwrap_err();
        assert!(refused.contains("emulator:shop test"), "{refused}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "(emulator|datastore|dir|ndjson)?:?\\PC{0,20}") {
            if let Ok(target) = text.parse::<TargetSpec>() {
                assert_eq!(target.to_string().parse(), Ok(target));
            }
        }
    }
}
