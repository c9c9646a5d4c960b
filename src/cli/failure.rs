//! From the errors of the library to a sentence, a hint and an exit code. Matched by variant,
//! never by text.

use std::io;
use std::process::{ExitCode, ExitStatus};

use super::commands::{KEY_HINT, shell};
use crate::archive::ArchiveError;
use crate::datastore::error::DatastoreError;
use crate::extract::ExtractError;
use crate::pack::{ExportFault, PackError};
use crate::plan::{PlanClass, PlanError, TargetSpec};
use crate::restore::RestoreError;
use crate::restore::dependencies::NeededError;
use crate::restore::import::ImportError;
use crate::restore::journal::JournalError;
use crate::restore::journal::file::JournalFileError;
use crate::runtime::workers::WorkerLost;
use crate::store::{LocationError, StoreError};
use crate::targets::TargetError;
use crate::transform::redact::RedactError;
use crate::verify::VerifyError;

/// What helps whoever has no credentials.
const CREDENTIALS: &str =
    "`gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS, gives credentials";

/// The exit codes of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Done = 0,
    Own = 1,
    Usage = 2,
    Incomplete = 3,
    Damaged = 4,
    Refused = 5,
    Service = 6,
    Partly = 7,
    Steps = 8,
    Interrupted = 130,
    Terminated = 143,
}

impl Code {
    /// The code with which a process of kindpack ended.
    pub fn of_process(status: ExitStatus) -> Self {
        const ALL: [Code; 11] = [
            Code::Done,
            Code::Own,
            Code::Usage,
            Code::Incomplete,
            Code::Damaged,
            Code::Refused,
            Code::Service,
            Code::Partly,
            Code::Steps,
            Code::Interrupted,
            Code::Terminated,
        ];
        ALL.into_iter()
            .find(|code| status.code() == Some(i32::from(*code as u8)))
            .unwrap_or(Code::Own)
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code as u8)
    }
}

/// The code for what the operating system says: 2 where a name is wrong, 5 where it refuses, 6
/// where it fails.
pub fn code_of(error: &io::Error) -> Code {
    use io::ErrorKind::{
        AlreadyExists, DirectoryNotEmpty, InvalidData, InvalidFilename, InvalidInput, IsADirectory,
        NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem, ResourceBusy,
    };
    match error.kind() {
        NotFound | NotADirectory | IsADirectory | InvalidFilename | InvalidInput | InvalidData => {
            Code::Usage
        }
        PermissionDenied | ReadOnlyFilesystem | AlreadyExists | DirectoryNotEmpty
        | ResourceBusy => Code::Refused,
        // A circle of links.
        _ if rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::LOOP) => {
            Code::Usage
        }
        _ => Code::Service,
    }
}

/// A command that failed: what could not be done and why, all of it, and what may help.
#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    /// What could not be done, such as `cannot pack`.
    pub what: String,
    /// Why, one sentence a line; the first says it in short.
    pub why: Vec<String>,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(code: Code, what: impl Into<String>, why: impl Into<String>) -> Self {
        Failure {
            code,
            what: what.into(),
            why: vec![why.into()],
            hint: None,
        }
    }

    /// A fault of kindpack's own.
    pub fn own(what: &str, why: impl Into<String>) -> Self {
        Failure::new(Code::Own, what, why)
    }

    pub fn usage(what: &str, why: impl Into<String>) -> Self {
        Failure::new(Code::Usage, what, why)
    }

    /// Something that the contract has and this version has not.
    pub fn not_yet(what: &str, thing: &str) -> Self {
        Failure::usage(what, format!("{thing}: not in this version"))
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure as one line, as events carry it.
    pub fn sentence(&self) -> String {
        format!("{}: {}", self.what, self.why.join("; "))
    }

    /// Something of this machine that could not be read or written.
    pub fn io(what: &str, name: impl std::fmt::Display, error: &io::Error) -> Self {
        Failure::new(code_of(error), what, format!("{name}: {error}"))
    }

    pub fn store(what: &str, error: &StoreError) -> Self {
        let code = match error {
            StoreError::NotFound { .. }
            | StoreError::NotAnObject { .. }
            | StoreError::NoBucket { .. }
            | StoreError::NoPayer { .. }
            | StoreError::UnfitName { .. }
            | StoreError::BadAddress { .. } => Code::Usage,
            StoreError::Exists { .. } | StoreError::Busy { .. } => Code::Refused,
            StoreError::Io { source, .. } => code_of(source),
            StoreError::Changed { .. } => Code::Incomplete,
            StoreError::BadName { .. }
            | StoreError::Corrupt { .. }
            | StoreError::WrongDigest { .. } => Code::Damaged,
            StoreError::Denied { .. }
            | StoreError::Unauthorized { .. }
            | StoreError::Service { .. }
            | StoreError::Lost { .. }
            | StoreError::Rejected { .. } => Code::Service,
        };
        let failure = Failure::new(code, what, error.to_string());
        match error {
            StoreError::Busy { .. } => {
                failure.hint("wait for the other one, or choose another name")
            }
            StoreError::UnfitName { .. } => {
                failure.hint("choose a shorter name; a sidecar needs 7 bytes more than its archive")
            }
            StoreError::NoPayer { .. } => failure.hint("--billing-project PROJECT names who pays"),
            StoreError::Denied { .. } => {
                failure.hint("docs/cloud-storage.md lists the roles that each command needs")
            }
            StoreError::Unauthorized { .. } => failure.hint(CREDENTIALS),
            StoreError::Service { .. } => failure
                .hint("the same command goes on; --retry-timeout gives the service more time"),
            _ => failure,
        }
    }

    pub fn location(what: &str, error: &LocationError) -> Self {
        Failure::usage(what, error.to_string())
    }

    pub fn worker(what: &str, error: &WorkerLost) -> Self {
        Failure::own(what, error.to_string())
    }

    /// What the store of an archive that is read says.
    pub fn archive_store(what: &str, error: &StoreError) -> Self {
        match error {
            StoreError::Changed { .. } => Failure::new(Code::Refused, what, error.to_string())
                .hint("somebody replaced the archive meanwhile: try again"),
            error => Failure::store(what, error),
        }
    }

    pub fn archive(what: &str, error: &ArchiveError) -> Self {
        match error {
            ArchiveError::Store(error) => Failure::archive_store(what, error),
            ArchiveError::Worker(error) => Failure::worker(what, error),
            ArchiveError::NotAZip { .. } => Failure::new(Code::Damaged, what, error.to_string()),
            ArchiveError::NoManifest { .. } => Failure::new(Code::Damaged, what, error.to_string())
                .hint("`kindpack verify --any-zip` checks zips that kindpack did not make"),
            ArchiveError::Structure { .. }
            | ArchiveError::BadManifest { .. }
            | ArchiveError::Data { .. } => Failure::new(Code::Damaged, what, error.to_string())
                .hint("`kindpack verify` says all that is wrong"),
        }
    }

    pub fn pack(error: &PackError) -> Self {
        const WHAT: &str = "cannot pack";
        match error {
            PackError::NotWhole { faults, unnamed, duplicates, missing, stale, is_latest } => {
                let code = if error.is_damage() { Code::Damaged } else { Code::Incomplete };
                // The object's name begins with the export's folder; where it does not, both are
                // told.
                let told = |fault: &ExportFault| {
                    if fault.fault.object.starts_with(&fault.export) {
                        fault.fault.to_string()
                    } else {
                        format!("{}: {}", fault.export, fault.fault)
                    }
                };
                let mut why: Vec<String> = faults.iter().chain(duplicates).map(told).collect();
                why.extend(missing.iter().map(|selector| format!("{selector}: expected a finished export, found none")));
                why.extend(stale.iter().map(ToString::to_string));
                let accepted: Option<Vec<String>> =
                    faults.iter().map(|fault| fault.fault.count_of.as_ref().map(|of| shell(&of.to_string()))).collect();
                let is_count_alone = missing.is_empty() && duplicates.is_empty() && stale.is_empty();
                let accepted = accepted.filter(|accepted| !accepted.is_empty() && is_count_alone);
                let hint = match unnamed.first() {
                    _ if accepted.is_some() => accepted.map(|selectors| {
                        let options: Vec<String> = selectors.iter().map(|selector| format!("--accept-count {selector}")).collect();
                        format!("{} packs them if nothing but the count is wrong; the archive records both counts", options.join(" "))
                    }),
                    _ if !duplicates.is_empty() && *is_latest => {
                        Some(
                            "move one of the two exports out of SOURCE: --latest leaves an export out only as a whole, and only where its time tells \
                             that it is older"
                                .to_owned(),
                        )
                    }
                    _ if !duplicates.is_empty() => Some("--latest takes the newest of two exports of one kind".to_owned()),
                    _ if code != Code::Incomplete => None,
                    Some(export) => Some(format!(
                        "move {export} out of SOURCE if nobody writes there any more: nothing tells its kinds, so --exclude cannot leave it out"
                    )),
                    None if faults.is_empty() && missing.is_empty() => {
                        Some("export these kinds again, or leave them out with --exclude; --max-spread 48h allows older ones".to_owned())
                    }
                    None => Some("--wait 1h waits for exports that are still being written; --exclude leaves kinds out".to_owned()),
                };
                Failure { code, what: WHAT.to_owned(), why, hint }
            }
            PackError::NoExport => Failure::new(Code::Incomplete, WHAT, format!("SOURCE: {error}"))
                .hint("SOURCE is a folder with *.overall_export_metadata or *.backup_info in it, at any depth"),
            PackError::NothingChosen => Failure::usage(WHAT, format!("--only/--exclude: {error}")),
            PackError::Indivisible { .. } => Failure::usage(WHAT, error.to_string()).hint("choose all kinds of that export, or none"),
            PackError::SeveralOrigins(_) => Failure::usage(WHAT, format!("SOURCE: {error}")).hint("pack each project on its own"),
            PackError::Taken(_) => {
                Failure::new(Code::Refused, WHAT, error.to_string()).hint("choose another name, or replace it with --overwrite")
            }
            PackError::SourceChanged(_) => Failure::new(Code::Incomplete, WHAT, format!("source changed: {error}"))
                .hint("pack again when nothing is written there any more"),
            PackError::Source(error) => Failure::store(WHAT, error),
            PackError::Dest(error) => match error {
                StoreError::NotFound { .. } | StoreError::NotAnObject { .. } => Failure::usage(WHAT, error.to_string()),
                StoreError::Exists { .. } => {
                    Failure::new(Code::Refused, WHAT, error.to_string()).hint("choose another name, or --overwrite")
                }
                _ => Failure::store(WHAT, error),
            },
            PackError::Seal(error) => Failure::new(Code::Damaged, WHAT, error.to_string()),
            PackError::MemoryTooSmall { .. } => Failure::usage(WHAT, error.to_string()).hint("--memory 1GiB allows more"),
            PackError::ChoosesNothing(_) => Failure::usage(WHAT, error.to_string()).hint("the default namespace is written (default)"),
            PackError::Torso => Failure::own(WHAT, error.to_string()),
            PackError::Deflate(_) => Failure::own(WHAT, error.to_string()),
            PackError::Worker(error) => Failure::worker(WHAT, error),
        }
    }

    pub fn verify(error: &VerifyError) -> Self {
        const WHAT: &str = "cannot verify";
        match error {
            VerifyError::Store(error) => Failure::archive_store(WHAT, error),
            VerifyError::ChoosesNothing(_) => {
                Failure::usage(WHAT, error.to_string()).hint("`kindpack list` shows the kinds")
            }
            VerifyError::MemoryTooSmall { .. } => {
                Failure::usage(WHAT, error.to_string()).hint("--memory 1GiB allows more")
            }
            VerifyError::Worker(error) => Failure::worker(WHAT, error),
        }
    }

    pub fn extract(error: &ExtractError) -> Self {
        const WHAT: &str = "cannot extract";
        match error {
            ExtractError::Archive(error) => Failure::archive(WHAT, error),
            ExtractError::Dest(error @ StoreError::Exists { .. }) => {
                Failure::new(Code::Refused, WHAT, error.to_string()).hint("nothing is overwritten: choose an empty DEST")
            }
            ExtractError::Dest(error @ StoreError::UnfitName { .. }) => Failure::new(Code::Refused, WHAT, error.to_string())
                .hint("`kindpack restore ARCHIVE --target dir:PATH` writes the exports with shortened names"),
            ExtractError::Dest(error) => Failure::store(WHAT, error),
            ExtractError::ChoosesNothing(_) => Failure::usage(WHAT, error.to_string()).hint("`kindpack list` shows the kinds"),
            ExtractError::Indivisible { .. } => Failure::usage(WHAT, error.to_string())
                .hint("choose all kinds of that export; `kindpack restore --target dir:PATH` divides exports"),
            ExtractError::SameName(_) => Failure::new(Code::Refused, WHAT, error.to_string()),
            ExtractError::Worker(error) => Failure::worker(WHAT, error),
        }
    }

    pub fn plan(what: &str, error: &PlanError) -> Self {
        let code = match error.class() {
            PlanClass::Usage => Code::Usage,
            PlanClass::Refused => Code::Refused,
        };
        let failure = Failure::new(code, what, error.to_string());
        match error {
            PlanError::Stale { .. } => failure.hint("make a new plan: `kindpack plan ARCHIVE --target TARGET -o PLAN`"),
            PlanError::Edited { .. } => failure.hint("steps of a plan may be removed or moved; for anything else make a new one"),
            PlanError::NothingChosen { .. } | PlanError::Redact(RedactError::NoKind { .. }) => {
                failure.hint("`kindpack list` shows the kinds")
            }
            PlanError::SourceProject { .. } => {
                failure.hint("--disaster-recovery declares that this project is to be overwritten; emulator: takes any project")
            }
            PlanError::RuleMatchesNothing { rule } => {
                failure.hint(format!("correct the name; --redact '?{rule}' is a rule that may match nothing"))
            }
            PlanError::NoRedactKey { .. } => failure.hint(KEY_HINT),
            PlanError::NoImport { .. } => failure.hint("--via commit can do it"),
            PlanError::SameFile { second, .. } => {
                failure.hint(format!("leave one out with --exclude '{second}', and restore it into another folder"))
            }
            _ => failure,
        }
    }

    pub fn target(what: &str, error: &TargetError) -> Self {
        let code = match error {
            TargetError::Datastore(error) => return Failure::datastore(what, error),
            TargetError::Refused { .. }
            | TargetError::BadEntity { .. }
            | TargetError::Unreadable { .. } => Code::Service,
            TargetError::Io { source, .. } => code_of(source),
            TargetError::TooLarge { .. }
            | TargetError::Taken { .. }
            | TargetError::UnfitName { .. }
            | TargetError::Leased { .. } => Code::Refused,
            TargetError::Worker(_) => Code::Own,
        };
        let failure = Failure::new(code, what, error.to_string());
        match error {
            TargetError::Taken { .. } => failure.hint("move it away, or choose another folder"),
            TargetError::UnfitName { .. } => {
                failure.hint("choose a folder with a shorter path, or on another file system")
            }
            TargetError::Leased { .. } => {
                failure.hint("wait for the other one; if it was killed, its mark ends at that time")
            }
            _ => failure,
        }
    }

    pub fn datastore(what: &str, error: &DatastoreError) -> Self {
        let failure = Failure::new(Code::Service, what, error.to_string());
        match error {
            DatastoreError::Service { .. } => {
                failure.hint("is it running? The same command goes on where this one stopped")
            }
            DatastoreError::NoImport { .. } => failure.hint("--via commit can do it"),
            DatastoreError::Denied { .. } => {
                failure.hint("the role roles/datastore.user allows what a restore does")
            }
            DatastoreError::Unauthorized { .. } => failure.hint(CREDENTIALS),
            DatastoreError::Refused { .. } | DatastoreError::UnexpectedResponse { .. } => failure,
        }
    }

    pub fn import(what: &str, error: &ImportError) -> Self {
        match error {
            ImportError::Archive(error) => Failure::archive(what, error),
            ImportError::Staging(error) => Failure::store(what, error),
            ImportError::Datastore(error) => Failure::datastore(what, error),
            ImportError::Worker(error) => Failure::worker(what, error),
            ImportError::Unfit { .. } => {
                Failure::new(Code::Refused, what, error.to_string()).hint("--via commit can do it")
            }
            ImportError::NoPlace { .. } => Failure::usage(what, error.to_string()),
            ImportError::Unread { .. } => Failure::new(Code::Service, what, error.to_string())
                .hint("--staging names another folder"),
            ImportError::Failed { .. } => Failure::new(Code::Service, what, error.to_string()),
        }
    }

    pub fn journal(what: &str, error: &JournalFileError) -> Self {
        let code = match error {
            JournalFileError::Io { source, .. } => code_of(source),
            JournalFileError::NotAFile { .. } => Code::Usage,
            JournalFileError::Busy { .. } | JournalFileError::Content { .. } => Code::Refused,
            JournalFileError::Impossible(_) | JournalFileError::Worker(_) => Code::Own,
        };
        let failure = Failure::new(code, what, error.to_string());
        match error {
            JournalFileError::Content { source: JournalError::OtherPlan { .. }, .. } => {
                failure.hint("add --again to rename that journal and begin a new one, or name another with --journal FILE")
            }
            JournalFileError::Content { .. } => failure.hint("--journal keeps the journal of this restore elsewhere"),
            _ => failure,
        }
    }

    pub fn restore(error: &RestoreError) -> Self {
        const WHAT: &str = "cannot restore";
        match error {
            RestoreError::Plan(error) => Failure::plan(WHAT, error),
            RestoreError::Journal(error) => Failure::journal(WHAT, error),
            RestoreError::Archive(error) => Failure::archive(WHAT, error),
            RestoreError::Target(error) => Failure::target(WHAT, error),
            RestoreError::NotEmpty { .. } => Failure::new(Code::Refused, WHAT, error.to_string())
                .hint("--on-existing merge overwrites the same keys and leaves other entities; or choose an empty target"),
            RestoreError::Forgotten { .. } => Failure::new(Code::Refused, WHAT, error.to_string())
                .hint("add --again to restore anew, if the target was emptied or started anew"),
            RestoreError::ChangedSince { target, .. } => Failure::new(Code::Refused, WHAT, error.to_string()).hint(match target {
                TargetSpec::Dir(_) | TargetSpec::Ndjson(_) => "remove what is there and add --again to restore anew",
                TargetSpec::Emulator { .. } | TargetSpec::Datastore { .. } => {
                    "restore with --on-existing replace to overwrite what has changed, or empty the target and add --again"
                }
            }),
            RestoreError::TooFew { .. } => Failure::new(Code::Partly, WHAT, error.to_string())
                .hint("start the emulator with --consistency=1.0, or see what else deletes there; the same command goes on"),
            RestoreError::WrongCount { .. } | RestoreError::Differing { .. } => Failure::new(Code::Damaged, WHAT, error.to_string()),
            RestoreError::Step { pair, error } => {
                let mut failure = Failure::restore(error);
                // Counts and comparisons name the kind themselves.
                if !matches!(**error, RestoreError::WrongCount { .. } | RestoreError::TooFew { .. } | RestoreError::Differing { .. }) {
                    failure.what = format!("{WHAT} {pair}");
                }
                failure
            }
            RestoreError::SomeFailed { .. } => Failure::new(Code::Partly, WHAT, error.to_string())
                .hint("`kindpack status PLAN` shows what failed; the same command tries it again, with --retry-failed nothing else"),
            RestoreError::Import(error) => Failure::import(WHAT, error),
            RestoreError::Redact(error) => Failure::new(Code::Refused, WHAT, error.to_string()),
            RestoreError::RedactKey { .. } => Failure::new(Code::Refused, WHAT, error.to_string())
                .hint("set the secret of that time, or make a new plan: hashes by two secrets do not join"),
            RestoreError::Needed(NeededError::Archive(error)) => Failure::archive(WHAT, error),
            RestoreError::Needed(NeededError::TooMany) => {
                Failure::new(Code::Refused, WHAT, error.to_string()).hint("a smaller sample, or one without --with-dependencies")
            }
            RestoreError::Hook(_) => Failure::new(Code::Partly, WHAT, error.to_string())
                .hint("when its cause is mended, the same command goes on with that hook"),
            RestoreError::LeaseLost { .. } => Failure::new(Code::Partly, WHAT, error.to_string()),
            RestoreError::Stopped { .. } => Failure::new(Code::Interrupted, "interrupted", error.to_string()),
        }
    }
}
