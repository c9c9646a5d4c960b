//! From the errors of the library to a sentence, a hint and an exit code. Matched by variant,
//! never by text.

use std::io;

use super::exit::ExitCode;
use super::text::shell_quote;
use crate::archive::ArchiveError;
use crate::archive::unpack::UnpackError;
use crate::backup::{BackupError, BackupJournalError};
use crate::datastore::emulator::EmulatorError;
use crate::datastore::error::DatastoreError;
use crate::extract::ExtractError;
use crate::model::{KindRef, Selector};
use crate::pack::{ExportFault, PackError};
use crate::plan::profile::ConfigError;
use crate::plan::{ChoiceError, PlanClass, PlanError};
use crate::prune::PruneError;
use crate::restore::RestoreError;
use crate::restore::dependencies::DependencyError;
use crate::restore::import::ImportError;
use crate::restore::journal::JournalError;
use crate::restore::journal::file::JournalFileError;
use crate::restore::prepare::PrepareError;
use crate::runtime::workers::WorkerPanicked;
use crate::store::{LocationError, StoreError};
use crate::targets::TargetError;
use crate::transform::redact::RedactError;
use crate::verify::VerifyError;

/// What helps whoever has no credentials.
const CREDENTIALS: &str =
    "`gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS, gives credentials";

/// How to come by a secret.
pub const KEY_HINT: &str = "export KINDPACK_REDACT_KEY=\"$(openssl rand -hex 32)\", and keep it: the same secret gives the same hashes";

/// What a restore could not do, also where another command runs it.
pub const CANNOT_RESTORE: &str = "cannot restore";

/// The code for what the operating system says: 2 where a name is wrong, 5 where it refuses, 6
/// where it fails.
pub fn code_of(error: &io::Error) -> ExitCode {
    use io::ErrorKind::{
        AlreadyExists, DirectoryNotEmpty, InvalidData, InvalidFilename, InvalidInput, IsADirectory,
        NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem, ResourceBusy,
    };
    match error.kind() {
        NotFound | NotADirectory | IsADirectory | InvalidFilename | InvalidInput | InvalidData => {
            ExitCode::Usage
        }
        PermissionDenied | ReadOnlyFilesystem | AlreadyExists | DirectoryNotEmpty
        | ResourceBusy => ExitCode::Refused,
        // A circle of links.
        _ if rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::LOOP) => {
            ExitCode::Usage
        }
        _ => ExitCode::Service,
    }
}

/// A command that failed: what could not be done and why, all of it, and what may help.
#[derive(Debug)]
pub struct Failure {
    pub code: ExitCode,
    /// What could not be done, such as `cannot pack`; each command says it once for all failures
    /// that do not say it themselves.
    prefix: Option<String>,
    /// Why, one sentence a line; the first says it in short.
    pub why: Vec<String>,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(code: ExitCode, why: impl Into<String>) -> Self {
        Failure::with_reasons(code, vec![why.into()])
    }

    /// A failure for several reasons.
    pub fn with_reasons(code: ExitCode, why: Vec<String>) -> Self {
        Failure {
            code,
            prefix: None,
            why,
            hint: None,
        }
    }

    /// A fault of kindpack's own.
    pub fn internal(why: impl Into<String>) -> Self {
        Failure::new(ExitCode::Internal, why)
    }

    pub fn usage(why: impl Into<String>) -> Self {
        Failure::new(ExitCode::Usage, why)
    }

    pub fn refused(why: impl Into<String>) -> Self {
        Failure::new(ExitCode::Refused, why)
    }

    /// Something that the contract has and this version has not.
    pub fn not_yet(thing: &str) -> Self {
        Failure::usage(format!("{thing}: not in this version"))
    }

    /// Something of this machine that could not be read or written.
    pub fn io(name: impl std::fmt::Display, error: &io::Error) -> Self {
        Failure::new(code_of(error), format!("{name}: {error}"))
    }

    /// What the store of an archive that is read says.
    pub fn from_archive_store(error: StoreError) -> Self {
        match error {
            StoreError::Changed { .. } => Failure::refused(error.to_string())
                .hint("somebody replaced the archive meanwhile: try again"),
            error => error.into(),
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what could not be done.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Adds a hint, unless there is one.
    pub fn or_hint(mut self, hint: &str) -> Self {
        self.hint.get_or_insert_with(|| hint.to_owned());
        self
    }

    /// Says what could not be done, unless the failure says it already.
    pub fn or_prefix(mut self, prefix: &str) -> Self {
        self.prefix.get_or_insert_with(|| prefix.to_owned());
        self
    }

    /// Each reason with what could not be done.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let prefix = self.prefix.as_deref().unwrap_or("failed");
        self.why.iter().map(move |why| format!("{prefix}: {why}"))
    }

    /// The failure as one line, as events carry it.
    pub fn sentence(&self) -> String {
        let prefix = self.prefix.as_deref().unwrap_or("failed");
        format!("{prefix}: {}", self.why.join("; "))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::NotFound { .. }
            | StoreError::NotAFile { .. }
            | StoreError::NoBucket { .. }
            | StoreError::BillingProjectRequired { .. }
            | StoreError::UnsupportedName { .. }
            | StoreError::InvalidAddress { .. } => ExitCode::Usage,
            StoreError::AlreadyExists { .. } | StoreError::Busy { .. } => ExitCode::Refused,
            StoreError::Io { source, .. } => code_of(source),
            StoreError::Changed { .. } => ExitCode::Incomplete,
            StoreError::InvalidName { .. }
            | StoreError::Corrupt { .. }
            | StoreError::WrongDigest { .. } => ExitCode::Damaged,
            StoreError::Denied { .. }
            | StoreError::Unauthorized { .. }
            | StoreError::Service { .. }
            | StoreError::UploadLost { .. }
            | StoreError::Held { .. }
            | StoreError::Refused { .. } => ExitCode::Service,
        };
        let failure = Failure::new(code, error.to_string());
        match error {
            StoreError::Busy { .. } => {
                failure.hint("wait for the other one, or choose another name")
            }
            StoreError::UnsupportedName { .. } => {
                failure.hint("choose a shorter name; a sidecar needs 7 bytes more than its archive")
            }
            StoreError::BillingProjectRequired { .. } => {
                failure.hint("--billing-project PROJECT names who pays")
            }
            StoreError::Denied { .. } => {
                failure.hint("docs/cloud-storage.md lists the roles that each command needs")
            }
            StoreError::Unauthorized { .. } => failure.hint(CREDENTIALS),
            StoreError::Service { .. } => failure
                .hint("the same command goes on; --retry-timeout gives the service more time"),
            _ => failure,
        }
    }
}

/// Errors that are always a wrong argument, or the file that it names.
macro_rules! usage_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::usage(error.to_string())
            }
        })*
    };
}

usage_from!(LocationError, ConfigError, ChoiceError);

impl From<WorkerPanicked> for Failure {
    fn from(error: WorkerPanicked) -> Self {
        Failure::internal(error.to_string())
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let damaged = Failure::new(ExitCode::Damaged, error.to_string());
        match error {
            ArchiveError::Store(error) => Failure::from_archive_store(error),
            ArchiveError::Worker(error) => error.into(),
            ArchiveError::NotAZip { .. } => damaged,
            ArchiveError::NoManifest { .. } => {
                damaged.hint("`kindpack verify --any-zip` checks zips that kindpack did not make")
            }
            ArchiveError::Structure { .. }
            | ArchiveError::BadManifest { .. }
            | ArchiveError::Data { .. } => damaged.hint("`kindpack verify` says all that is wrong"),
        }
    }
}

impl From<PackError> for Failure {
    fn from(error: PackError) -> Self {
        let text = error.to_string();
        match error {
            PackError::IncompleteSet { .. } => set_not_whole(&error),
            PackError::NoExport => Failure::new(ExitCode::Incomplete, format!("SOURCE: {text}")).hint(
                "SOURCE is a folder with *.overall_export_metadata or *.backup_info in it, at any depth",
            ),
            PackError::EmptySelection => Failure::usage(format!("--only/--exclude: {text}")),
            PackError::CannotSplitExport { .. } => {
                Failure::usage(text).hint("choose all kinds of that export, or none")
            }
            PackError::MultipleProjects(_) => {
                Failure::usage(format!("SOURCE: {text}")).hint("pack each project on its own")
            }
            PackError::AlreadyExists(_) => {
                Failure::refused(text).hint("choose another name, or replace it with --overwrite")
            }
            PackError::SourceChanged(_) => {
                Failure::new(ExitCode::Incomplete, format!("source changed: {text}"))
                    .hint("pack again when nothing is written there any more")
            }
            PackError::Source(error) => error.into(),
            PackError::Dest(error) => match error {
                StoreError::NotFound { .. } | StoreError::NotAFile { .. } => {
                    Failure::usage(error.to_string())
                }
                StoreError::AlreadyExists { .. } => Failure::refused(error.to_string())
                    .hint("choose another name, or --overwrite"),
                error => error.into(),
            },
            PackError::Zip(_) => Failure::new(ExitCode::Damaged, text),
            PackError::MemoryTooSmall { .. } => {
                Failure::usage(text).hint("--memory 1GiB allows more")
            }
            PackError::NoMatch(_) => {
                Failure::usage(text).hint("the default namespace is written (default)")
            }
            PackError::SameCompanion(_) => Failure::usage(text)
                .hint("name the folder that holds both, so that their names differ"),
            PackError::IncompleteArchive | PackError::Deflate(_) | PackError::NotMissing(_) => Failure::internal(text),
            PackError::Worker(error) => error.into(),
        }
    }
}

/// All that is wrong with a set of exports.
fn set_not_whole(error: &PackError) -> Failure {
    let PackError::IncompleteSet {
        faults,
        duplicates,
        missing,
        stale,
        ..
    } = error
    else {
        return Failure::internal(error.to_string());
    };
    // The object's name begins with the export's folder; where it does not, both are named.
    let sentence = |fault: &ExportFault| {
        if fault.fault.object.starts_with(&fault.export) {
            fault.fault.to_string()
        } else {
            format!("{}: {}", fault.export, fault.fault)
        }
    };
    let absent =
        |selector: &Selector| format!("{selector}: expected a finished export, found none");
    let mut why: Vec<String> = faults.iter().chain(duplicates).map(sentence).collect();
    why.extend(missing.iter().map(absent));
    why.extend(stale.iter().map(ToString::to_string));
    let code = if error.is_damage() {
        ExitCode::Damaged
    } else {
        ExitCode::Incomplete
    };
    Failure {
        hint: hint_for_set(error, code),
        ..Failure::with_reasons(code, why)
    }
}

/// What may help with a set of exports that is not whole.
fn hint_for_set(error: &PackError, code: ExitCode) -> Option<String> {
    let PackError::IncompleteSet {
        faults,
        unnamed,
        duplicates,
        missing,
        stale,
        is_latest,
    } = error
    else {
        return None;
    };
    let accepted: Option<Vec<String>> = faults
        .iter()
        .map(|fault| {
            let of = fault.fault.count_of.as_ref()?;
            Some(format!("--accept-count {}", shell_quote(&of.to_string())))
        })
        .collect();
    let is_count_alone = missing.is_empty() && duplicates.is_empty() && stale.is_empty();
    if let Some(options) = accepted.filter(|options| !options.is_empty() && is_count_alone) {
        return Some(format!(
            "{} packs them if nothing but the count is wrong; the archive records both counts",
            options.join(" ")
        ));
    }
    let hint = match unnamed.first() {
        _ if !duplicates.is_empty() && *is_latest => {
            "move one of the two exports out of SOURCE: --latest leaves an export out only as a whole, and only where its time tells \
             that it is older"
        }
        _ if !duplicates.is_empty() => "--latest takes the newest of two exports of one kind",
        _ if code != ExitCode::Incomplete => return None,
        Some(export) => {
            return Some(format!(
                "move {export} out of SOURCE if nobody writes there any more: nothing tells its kinds, so --exclude cannot leave it out"
            ));
        }
        None if faults.is_empty() && missing.is_empty() => {
            "export these kinds again, or leave them out with --exclude; --max-spread 48h allows older ones"
        }
        None => {
            "--wait 1h waits for exports that are still being written; --exclude leaves kinds out"
        }
    };
    Some(hint.to_owned())
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        let text = error.to_string();
        let failure = match error {
            VerifyError::Store(error) => Failure::from_archive_store(error),
            VerifyError::NoMatch(_) => Failure::usage(text).hint("`kindpack list` shows the kinds"),
            VerifyError::MemoryTooSmall { .. } => {
                Failure::usage(text).hint("--memory 1GiB allows more")
            }
            VerifyError::Worker(error) => error.into(),
        };
        // Also where another command verifies first.
        failure.prefix("cannot verify")
    }
}

impl From<ExtractError> for Failure {
    fn from(error: ExtractError) -> Self {
        let text = error.to_string();
        match error {
            ExtractError::Archive(error) => error.into(),
            ExtractError::Dest(StoreError::AlreadyExists { .. }) => {
                Failure::refused(text).hint("nothing is overwritten: choose an empty DEST")
            }
            ExtractError::Dest(StoreError::UnsupportedName { .. }) => Failure::refused(text).hint(
                "`kindpack restore ARCHIVE --target dir:PATH` writes the exports with shortened names",
            ),
            ExtractError::Dest(error) => error.into(),
            ExtractError::NoMatch(_) => {
                Failure::usage(text).hint("`kindpack list` shows the kinds")
            }
            ExtractError::CannotSplitExport { .. } => Failure::usage(text).hint(
                "choose all kinds of that export; `kindpack restore --target dir:PATH` divides exports",
            ),
            ExtractError::SameName(_) => Failure::refused(text),
            ExtractError::AmongCompanions(_) => Failure::refused(text).hint(
                "--only '*' writes the exports alone, `kindpack restore --companions DEST` the companions",
            ),
            ExtractError::Worker(error) => error.into(),
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let code = match error.class() {
            PlanClass::Usage => ExitCode::Usage,
            PlanClass::Refused => ExitCode::Refused,
        };
        let failure = Failure::new(code, error.to_string());
        match error {
            PlanError::ArchiveChanged { .. } => {
                failure.hint("make a new plan: `kindpack plan ARCHIVE --target TARGET -o PLAN`")
            }
            PlanError::PlanModified { .. } => failure
                .hint("steps of a plan may be removed or moved; for anything else make a new one"),
            PlanError::EmptySelection { .. } | PlanError::Redact(RedactError::NoKind { .. }) => {
                failure.hint("`kindpack list` shows the kinds")
            }
            PlanError::SourceProject { .. } => failure.hint(
                "--disaster-recovery declares that this project is to be overwritten; emulator: takes any project",
            ),
            PlanError::RuleMatchesNothing { rule } => failure.hint(format!(
                "correct the name; --redact '?{rule}' is a rule that may match nothing"
            )),
            PlanError::NoRedactKey { .. } => failure.hint(KEY_HINT),
            PlanError::NoImport { .. } => failure.hint("--via commit can do it"),
            PlanError::SameFile { second, .. } => failure.hint(format!(
                "leave one out with --exclude '{second}', and restore it into another folder"
            )),
            _ => failure,
        }
    }
}

impl From<BackupJournalError> for Failure {
    fn from(error: BackupJournalError) -> Self {
        let text = error.to_string();
        match error {
            BackupJournalError::Store(error) => error.into(),
            BackupJournalError::Impossible(_) => Failure::internal(text),
            BackupJournalError::Busy(_) => Failure::refused(text)
                .hint("wait for the other process, or start another backup with --new"),
            BackupJournalError::Malformed { .. }
            | BackupJournalError::Contradiction { .. }
            | BackupJournalError::Gap(_) => {
                Failure::refused(text).hint("start another backup with --new")
            }
        }
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let text = error.to_string();
        let service = |text: &str| Failure::new(ExitCode::Service, text);
        match error {
            BackupError::Source(error) => (*error).into(),
            BackupError::Journal(error) => error.into(),
            BackupError::Datastore(DatastoreError::Denied { .. }) => service(&text).hint(
                "grant the roles roles/datastore.viewer and roles/datastore.importExportAdmin",
            ),
            BackupError::Datastore(error) => error.into(),
            BackupError::Exports(error) => error.into(),
            BackupError::Pack(error) => (*error).into(),
            BackupError::Verify(error) => error.into(),
            BackupError::Damaged { problems, .. } => {
                Failure::with_reasons(ExitCode::Damaged, problems)
            }
            BackupError::OperationTimeout { .. } => {
                Failure::new(ExitCode::Partial, text).hint("the same command goes on with it")
            }
            BackupError::NoSnapshots(_) => service(&text).hint("leave out --snapshot-time"),
            BackupError::SnapshotRefused { advice, .. } => Failure {
                hint: advice,
                ..service(&text)
            },
            BackupError::NoKinds(_) => Failure::new(ExitCode::Incomplete, text).hint(
                "check the name of the project; kinds whose names start with _ are never backed up",
            ),
            BackupError::NoNamespace(_) => {
                Failure::usage(text).hint("the default namespace is written (default)")
            }
            BackupError::ChoosesNothing(_) | BackupError::NothingSelected => {
                Failure::usage(text).hint("`kindpack backup --dry-run` shows the kinds")
            }
            BackupError::Location { .. } => Failure::usage(text),
            BackupError::Busy(_) => Failure::refused(text)
                .hint("wait for the other process, or start another backup with --new"),
            BackupError::Lock { source, .. } => Failure::new(code_of(&source), text),
        }
    }
}

impl From<PruneError> for Failure {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Store(error) => error.into(),
            PruneError::Verify(error) => error.into(),
            PruneError::Damaged(problems) => Failure::with_reasons(ExitCode::Damaged, problems)
                .hint("nothing was removed; move the damaged archive away, and prune again"),
        }
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Archive(error) => error.into(),
            PrepareError::Plan(error) => error.into(),
        }
    }
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        let code = match &error {
            TargetError::Datastore(_)
            | TargetError::Refused { .. }
            | TargetError::EntityRejected { .. }
            | TargetError::Unreadable { .. } => ExitCode::Service,
            TargetError::Io { source, .. } => code_of(source),
            TargetError::TooLarge { .. }
            | TargetError::AlreadyExists { .. }
            | TargetError::UnsupportedName { .. }
            | TargetError::Locked { .. } => ExitCode::Refused,
            TargetError::Worker(_) => ExitCode::Internal,
        };
        let failure = Failure::new(code, error.to_string());
        match error {
            TargetError::Datastore(error) => error.into(),
            TargetError::AlreadyExists { .. } => {
                failure.hint("move it away, or choose another folder")
            }
            TargetError::UnsupportedName { .. } => {
                failure.hint("choose a folder with a shorter path, or on another file system")
            }
            TargetError::Locked { .. } => {
                failure.hint("wait for the other one; if it was killed, its mark ends at that time")
            }
            _ => failure,
        }
    }
}

impl From<DatastoreError> for Failure {
    fn from(error: DatastoreError) -> Self {
        let failure = Failure::new(ExitCode::Service, error.to_string());
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
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        let text = error.to_string();
        match error {
            ImportError::Archive(error) => error.into(),
            ImportError::Staging(error) => error.into(),
            ImportError::Datastore(error) => error.into(),
            ImportError::Worker(error) => error.into(),
            ImportError::NotImportable { .. } => {
                Failure::refused(text).hint("--via commit can do it")
            }
            ImportError::InvalidStaging { .. } => Failure::usage(text),
            ImportError::EmulatorCannotRead { .. } => {
                Failure::new(ExitCode::Service, text).hint("--staging names another folder")
            }
            ImportError::Failed { .. } => Failure::new(ExitCode::Service, text),
            ImportError::OperationTimeout { .. } => Failure::new(ExitCode::Partial, text).hint(
                "run the same command again: it goes on with this operation; --operation-timeout sets how long",
            ),
        }
    }
}

impl From<JournalFileError> for Failure {
    fn from(error: JournalFileError) -> Self {
        let code = match &error {
            JournalFileError::Io { source, .. } => code_of(source),
            JournalFileError::NotAFile { .. } => ExitCode::Usage,
            JournalFileError::Busy { .. } | JournalFileError::Content { .. } => ExitCode::Refused,
            JournalFileError::InvalidTransition(_) | JournalFileError::Worker(_) => {
                ExitCode::Internal
            }
        };
        let failure = Failure::new(code, error.to_string());
        match error {
            JournalFileError::Content {
                source: JournalError::OtherPlan { .. },
                ..
            } => failure.hint(
                "add --again to rename that journal and begin a new one, or name another with --journal FILE",
            ),
            JournalFileError::Content { .. } => {
                failure.hint("--journal keeps the journal of this restore elsewhere")
            }
            _ => failure,
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        let text = error.to_string();
        let failure = match error {
            RestoreError::Plan(error) => error.into(),
            RestoreError::Journal(error) => error.into(),
            RestoreError::Archive(error) => error.into(),
            RestoreError::Target(error) => error.into(),
            RestoreError::Import(error) => error.into(),
            RestoreError::Companions(error) => companions_failed(error),
            RestoreError::Step { pair, error } => step_failed(&pair, *error),
            RestoreError::Dependencies(DependencyError::Archive(error)) => error.into(),
            RestoreError::Stopped { .. } => {
                Failure::new(ExitCode::Interrupted, text).prefix("interrupted")
            }
            error => Failure {
                hint: restore_hint(&error).map(str::to_owned),
                ..Failure::new(restore_code(&error), text)
            },
        };
        failure.or_prefix(CANNOT_RESTORE)
    }
}

/// What keeps companions from being copied after a restore.
fn companions_failed(error: UnpackError) -> Failure {
    let text = error.to_string();
    let failure = match error {
        UnpackError::Archive(error) => error.into(),
        UnpackError::Dest(StoreError::AlreadyExists { .. }) => Failure::refused(text)
            .hint("nothing is overwritten: choose another folder for --companions"),
        UnpackError::Dest(StoreError::UnsupportedName { .. }) => Failure::refused(text),
        UnpackError::Dest(error) => error.into(),
        UnpackError::Worker(error) => error.into(),
    };
    failure.prefix("cannot copy companions")
}

/// A step's failure names its kind.
fn step_failed(pair: &KindRef, error: RestoreError) -> Failure {
    // Counts and comparisons name it themselves.
    let is_named = matches!(
        error,
        RestoreError::WrongCount { .. }
            | RestoreError::TooFew { .. }
            | RestoreError::Mismatch { .. }
    );
    let failure = Failure::from(error);
    if is_named {
        failure
    } else {
        failure.prefix(format!("{CANNOT_RESTORE} {pair}"))
    }
}

fn restore_code(error: &RestoreError) -> ExitCode {
    match error {
        RestoreError::WrongCount { .. } | RestoreError::Mismatch { .. } => ExitCode::Damaged,
        RestoreError::TooFew { .. }
        | RestoreError::StepsFailed { .. }
        | RestoreError::Hook(_)
        | RestoreError::LeaseLost { .. } => ExitCode::Partial,
        _ => ExitCode::Refused,
    }
}

fn restore_hint(error: &RestoreError) -> Option<&'static str> {
    Some(match error {
        RestoreError::NotEmpty { .. } => {
            "--on-existing merge overwrites the same keys and leaves other entities; or choose an empty target"
        }
        RestoreError::TargetLostData { .. } => {
            "add --again to restore anew, if the target was emptied or started anew"
        }
        RestoreError::TargetChanged { target, .. } if target.path().is_some() => {
            "remove what is there and add --again to restore anew"
        }
        RestoreError::TargetChanged { .. } => {
            "restore with --on-existing replace to overwrite what has changed, or empty the target and add --again"
        }
        RestoreError::TooFew { .. } => {
            "start the emulator with --consistency=1.0, or see what else deletes there; the same command goes on"
        }
        RestoreError::StepsFailed { .. } => {
            "`kindpack status PLAN` shows what failed; the same command tries it again, with --retry-failed nothing else"
        }
        RestoreError::RedactKey { .. } => {
            "set the secret of that time, or make a new plan: hashes by two secrets do not join"
        }
        RestoreError::Dependencies(DependencyError::TooMany) => {
            "a smaller sample, or one without --with-dependencies"
        }
        RestoreError::Hook(_) => {
            "when its cause is mended, the same command goes on with that hook"
        }
        _ => return None,
    })
}

impl From<EmulatorError> for Failure {
    fn from(error: EmulatorError) -> Self {
        let text = error.to_string();
        match error {
            EmulatorError::Missing { .. } => Failure::usage(text).hint(
                "`gcloud components install cloud-datastore-emulator` installs it; KINDPACK_DATASTORE_EMULATOR names one that is elsewhere",
            ),
            EmulatorError::NotUsable { .. } => Failure::usage(text).hint(
                "set KINDPACK_DATASTORE_EMULATOR to the emulator's CloudDatastore.jar or script, or unset it",
            ),
            EmulatorError::NoStart { printed, .. } => {
                let mut failure = Failure::new(ExitCode::Service, text);
                let printed = printed.iter().map(|line| format!("it printed: {line}"));
                failure.why.extend(printed);
                failure
            }
        }
    }
}
