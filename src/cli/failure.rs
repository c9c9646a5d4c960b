//! From the errors of the library to a sentence, a hint and an exit code. Matched by variant,
//! never by text.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::exit::ExitCode;
use super::text::shell_quote;
use crate::archive::ArchiveError;
use crate::archive::signed::SignedArchiveError;
use crate::archive::unpack::UnpackError;
use crate::backup::{BackupError, BackupJournalError};
use crate::datastore::emulator::EmulatorError;
use crate::datastore::error::DatastoreError;
use crate::encryption::DecryptionError;
use crate::extract::ExtractError;
use crate::model::{KindRef, Selector, UnmatchedSelector};
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
use crate::signature::SignatureError;
use crate::store::{LocationError, StoreError};
use crate::targets::TargetError;
use crate::transform::redact::RedactError;
use crate::verify::VerifyError;

/// What helps without credentials.
const CREDENTIALS: &str =
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS";

/// How to get a secret.
pub const KEY_HINT: &str = "run `export KINDPACK_REDACT_KEY=\"$(openssl rand -hex 32)\"`, and keep it: the same secret gives the same hashes";

/// What helps where nothing but a second run does.
pub const RUN_AGAIN: &str = "run the same command again to continue";

/// What helps where a service of Google's does not answer.
const TRY_LONGER: &str =
    "run the same command again to continue, or pass a longer --retry-timeout such as 10m";

/// What helps where an emulator does not answer.
const CHECK_EMULATOR: &str = "check the address, and that the emulator is running (`gcloud beta emulators datastore start` starts an emulator), then run the same command again";

/// What helps where an import cannot.
const USE_COMMIT: &str = "use --via commit";

/// What shows the kinds of an archive.
const LIST_KINDS: &str = "run `kindpack list ARCHIVE` to see the kinds";

/// What helps where a plan does not.
const NEW_PLAN: &str = "make a new plan: `kindpack plan ARCHIVE --target TARGET -o PLAN`";

/// What shows the kinds of a Datastore.
const DRY_RUN_SHOWS_KINDS: &str =
    "run `kindpack backup FROM EXPORTS ARCHIVE --dry-run` to see the kinds";

/// What helps where an archive is cut off or changed.
pub const OTHER_COPY: &str = "copy it again, or use another archive";

/// What helps with a zip of exports that kindpack did not make.
pub const UNZIP: &str =
    "unzip it into a folder and pack that if it holds exports: `kindpack pack FOLDER NEW_ARCHIVE`";

/// What a restore could not do, also where another command runs it.
pub const CANNOT_RESTORE: &str = "cannot restore";

/// What a rehearsal could not do.
pub const CANNOT_REHEARSE: &str = "cannot rehearse";

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
            why: why.iter().map(|why| without_error_numbers(why)).collect(),
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

    /// An address of a bucket where only a path of this machine can be.
    pub fn local_only(address: &str) -> Self {
        Failure::usage(format!(
            "{address} is in a bucket; only a local path is possible here"
        ))
    }

    /// A selector that matches nothing; `otherwise` helps where none is near.
    fn unmatched(error: &UnmatchedSelector, otherwise: &str) -> Self {
        Failure::usage(error.to_string()).hint(nearest_hint(error, otherwise))
    }

    /// Something of this machine that could not be read or written.
    pub fn io(name: impl std::fmt::Display, error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::PermissionDenied => return Failure::denied(&name.to_string()),
            io::ErrorKind::NotFound => format!("{name}: no such file"),
            io::ErrorKind::IsADirectory => format!("{name} is a folder, not a file"),
            _ => format!("{name}: {error}"),
        };
        Failure::new(code_of(error), why)
    }

    /// Something of this machine that this user may not read or write.
    fn denied(name: &str) -> Self {
        let mut places = Path::new(name).ancestors();
        let place = places.find(|place| place.symlink_metadata().is_ok());
        let place = place.map_or_else(|| ".".to_owned(), |place| place.display().to_string());
        Failure::refused(format!("{name}: permission denied")).hint(format!(
            "run `ls -ld {}` to see who may use it; run kindpack as that user, or have the permissions changed",
            shell_quote(&place)
        ))
    }

    /// With the names that the user gave to places, in the commands that the hint proposes.
    pub fn with_names(mut self, names: &PlaceNames) -> Self {
        self.hint = self.hint.map(|hint| names.fill_in(&hint));
        for why in &mut self.why {
            names.name_source(why);
        }
        self
    }

    /// What the store of an archive that is read says.
    pub fn from_archive_store(error: StoreError) -> Self {
        match error {
            StoreError::Changed { .. } => Failure::refused(error.to_string())
                .hint("run the command again: the archive was replaced meanwhile"),
            error => error.into(),
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names what the failure is about before each reason.
    pub fn about(mut self, name: &str) -> Self {
        for why in &mut self.why {
            why.insert_str(0, &format!("{name}: "));
        }
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

/// What the user calls the places that hints speak of, such as `ARCHIVE`.
#[derive(Debug, Default)]
pub struct PlaceNames(Mutex<BTreeMap<&'static str, String>>);

impl PlaceNames {
    /// Notes the name of a place.
    pub fn set(&self, place: &'static str, name: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(place, shell_quote(name));
    }

    /// Names SOURCE where a sentence begins with it.
    fn name_source(&self, sentence: &mut String) {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_subject = ["SOURCE ", "SOURCE: "]
            .iter()
            .any(|start| sentence.starts_with(start));
        if let (Some(name), true) = (names.get("SOURCE"), is_subject) {
            sentence.replace_range(.."SOURCE".len(), name);
        }
    }

    /// A hint with these names in its commands: what stands between backquotes.
    fn fill_in(&self, hint: &str) -> String {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |word| names.get(word).map_or(word, String::as_str);
        let parts = hint
            .split('`')
            .map(|part| match part.strip_prefix("kindpack ") {
                Some(_) => part.split(' ').map(name).collect::<Vec<_>>().join(" "),
                None => part.to_owned(),
            });
        parts.collect::<Vec<_>>().join("`")
    }
}

/// A sentence without the numbers that Rust adds to what the operating system says, such as
/// ` (os error 28)`: the words before say the same.
fn without_error_numbers(sentence: &str) -> String {
    let mut parts = sentence.split(" (os error ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit());
        match after.strip_prefix(')') {
            Some(rest) if after.len() < part.len() => plain.push_str(rest),
            _ => plain.extend([" (os error ", part]),
        }
    }
    plain
}

/// What to do about a selector that matches nothing: the nearest one, or where the kinds are shown.
fn nearest_hint(unmatched: &UnmatchedSelector, otherwise: &str) -> String {
    let text = unmatched.selector.to_string();
    let words: Vec<&str> = text
        .split([',', ' '])
        .filter(|word| !word.is_empty())
        .collect();
    match &unmatched.nearest {
        _ if words.len() > 1 => {
            let options = words
                .iter()
                .map(|word| format!("--only {}", shell_quote(word)));
            let options: Vec<String> = options.collect();
            format!(
                "repeat the option for each kind, such as {}",
                options.join(" ")
            )
        }
        Some(nearest) => format!("did you mean {}?", shell_quote(&nearest.to_string())),
        None => otherwise.to_owned(),
    }
}

/// A selector that matches no kind of an archive.
impl From<UnmatchedSelector> for Failure {
    fn from(error: UnmatchedSelector) -> Self {
        Failure::unmatched(&error, LIST_KINDS)
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
            StoreError::NotDecrypted { .. } if error.is_decryption_damage() => ExitCode::Damaged,
            StoreError::AlreadyExists { .. }
            | StoreError::Busy { .. }
            | StoreError::Encrypted { .. }
            | StoreError::NotDecrypted { .. } => ExitCode::Refused,
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
            StoreError::Io { name, source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Failure::denied(&name)
            }
            StoreError::Encrypted { .. } => {
                failure.hint("pass --identity FILE with the age identity of one of its recipients")
            }
            StoreError::NotDecrypted { error, .. } => match error {
                DecryptionError::WrongIdentity => failure
                    .hint("pass --identity FILE with the age identity of one of its recipients"),
                DecryptionError::Passphrase => {
                    failure.hint("decrypt it with `age -d`, then read the archive")
                }
                DecryptionError::Damaged(_) => failure.hint(OTHER_COPY),
            },
            StoreError::Busy { .. } => {
                failure.hint("wait for the other process, or choose another name")
            }
            StoreError::UnsupportedName { .. } => failure.hint(
                "choose a shorter name; a sidecar has a name 7 bytes longer than its archive",
            ),
            StoreError::BillingProjectRequired { .. } => {
                failure.hint("pass --billing-project PROJECT")
            }
            StoreError::Denied { .. } => {
                failure.hint("grant the roles that docs/cloud-storage.md lists for this command")
            }
            StoreError::Unauthorized { .. } => failure.hint(CREDENTIALS),
            StoreError::Service { .. } => failure.hint(TRY_LONGER),
            StoreError::InvalidAddress { variable, .. } => failure.hint(format!(
                "unset {variable}, or set it to an address such as http://localhost:9023"
            )),
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
            ArchiveError::NotAZip { .. } => {
                damaged.hint("name an archive that `kindpack pack` or `kindpack backup` made")
            }
            ArchiveError::Empty { .. } | ArchiveError::NoZipEnd { .. } => damaged.hint(OTHER_COPY),
            ArchiveError::NoManifest { .. } => damaged.hint(UNZIP),
            ArchiveError::NewerFormat { .. } => damaged.hint("install a newer version of kindpack"),
            ArchiveError::Structure { .. }
            | ArchiveError::BadManifest { .. }
            | ArchiveError::Data { .. } => {
                damaged.hint("run `kindpack verify ARCHIVE` to see every problem")
            }
        }
    }
}

impl From<SignedArchiveError> for Failure {
    fn from(error: SignedArchiveError) -> Self {
        let text = error.to_string();
        match error {
            SignedArchiveError::Missing { .. } => Failure::new(ExitCode::Incomplete, text)
                .hint("sign archives with `kindpack pack SOURCE ARCHIVE --sign KEYFILE`"),
            SignedArchiveError::Bad { error, .. } => signature_failed(text, &error),
            SignedArchiveError::Store(error) => Failure::from_archive_store(error),
        }
    }
}

/// A signature that is not good.
fn signature_failed(text: String, error: &SignatureError) -> Failure {
    let damaged = Failure::new(ExitCode::Damaged, text);
    match error {
        SignatureError::Worker(error) => Failure::internal(error.to_string()),
        SignatureError::Legacy => {
            damaged.hint("sign the archive again with minisign 0.10 or later")
        }
        SignatureError::OtherKey { .. } => {
            damaged.hint("check that --trusted names the public key of who signs the archives")
        }
        SignatureError::Malformed | SignatureError::Mismatch(_) => {
            damaged.hint("do not trust the archive: it or its signature was changed")
        }
    }
}

impl From<PackError> for Failure {
    fn from(error: PackError) -> Self {
        let text = error.to_string();
        match error {
            PackError::IncompleteSet { .. } => incomplete_set(&error, None),
            PackError::NoExport => Failure::new(ExitCode::Incomplete, text).hint(
                "name a folder that contains *.overall_export_metadata or *.backup_info, at any depth",
            ),
            PackError::EmptySelection => Failure::usage(text)
                .hint("change --only or --exclude; `kindpack pack SOURCE ARCHIVE --dry-run` shows the kinds"),
            PackError::CannotSplitExport { .. } => {
                Failure::usage(text).hint("select both or neither")
            }
            PackError::MultipleProjects(_) => {
                Failure::usage(text).hint("pack each project on its own")
            }
            PackError::AlreadyExists(_) => {
                Failure::refused(text).hint("choose another name, or pass --overwrite")
            }
            PackError::OtherSignature(_) => Failure::refused(text)
                .hint("sign with the same key, or pass --overwrite to replace archive and signature"),
            PackError::SourceChanged(_) => Failure::new(ExitCode::Incomplete, text)
                .hint("pack again when nothing writes there any more"),
            PackError::Source(error @ StoreError::NotAFile { .. }) => Failure::from(error)
                .hint("name the folder that contains the exports; unzip a zip of exports first"),
            PackError::Source(error) => error.into(),
            PackError::Dest(error) => match error {
                StoreError::NotFound { .. } | StoreError::NotAFile { .. } => {
                    Failure::usage(error.to_string())
                }
                StoreError::AlreadyExists { .. } => Failure::refused(error.to_string())
                    .hint("choose another name, or pass --overwrite"),
                error => error.into(),
            },
            PackError::Zip(_) => Failure::new(ExitCode::Damaged, text),
            PackError::MemoryTooSmall { .. } => {
                Failure::usage(text).hint("pass --memory 1GiB or more")
            }
            PackError::NoMatch(unmatched) => Failure::unmatched(
                &unmatched,
                "run `kindpack pack SOURCE ARCHIVE --dry-run` to see the kinds",
            ),
            PackError::SameCompanion(_) => {
                Failure::usage(text).hint("name the folder that contains both sources instead")
            }
            PackError::IncompleteArchive
            | PackError::Deflate(_)
            | PackError::NotMissing(_)
            | PackError::NotSigned(_)
            | PackError::NotEncrypted(_) => Failure::internal(text),
            PackError::Worker(error) => error.into(),
        }
    }
}

/// What an expected selector is called in messages: the file and the line that it comes from.
pub type ExpectedPlace<'a> = &'a dyn Fn(&Selector) -> String;

/// All that is wrong with a set of exports. What is expected comes from the lines of a file, or
/// from kindpack itself.
pub fn incomplete_set(error: &PackError, expected: Option<ExpectedPlace<'_>>) -> Failure {
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
        if fault.fault.object == "." {
            return format!("SOURCE: {}", fault.fault.reason);
        }
        if fault.fault.object.starts_with(&fault.export) {
            fault.fault.to_string()
        } else {
            format!("{}: {}", fault.export, fault.fault)
        }
    };
    let mut why: Vec<String> = faults.iter().map(sentence).collect();
    why.extend(duplicates.iter().map(|twice| twice.fault.reason.clone()));
    why.extend(missing.iter().map(|missing| absent(missing, expected)));
    why.extend(stale.iter().map(ToString::to_string));
    let code = if error.is_damage() {
        ExitCode::Damaged
    } else {
        ExitCode::Incomplete
    };
    let hint = match expected {
        Some(_) if faults.is_empty() && duplicates.is_empty() && stale.is_empty() => {
            Some("correct or delete the line, or wait for the export with --wait 1h".to_owned())
        }
        _ => hint_for_set(error, code),
    };
    Failure {
        hint,
        ..Failure::with_reasons(code, why)
    }
}

/// What is said of an expected selector that no finished export answers.
fn absent(missing: &UnmatchedSelector, expected: Option<ExpectedPlace<'_>>) -> String {
    let UnmatchedSelector { selector, nearest } = missing;
    let place = expected.map(|place| format!("{}: ", place(selector)));
    let nearest = nearest.as_ref();
    let nearest = nearest.map(|nearest| format!("; did you mean {nearest}?"));
    format!(
        "{}{selector}: there is no finished export of it{}",
        place.unwrap_or_default(),
        nearest.unwrap_or_default()
    )
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
            "export the kind again, or leave it out with --exclude; pass {} only if the announced count is wrong",
            options.join(" ")
        ));
    }
    let hint = match unnamed.first() {
        _ if !duplicates.is_empty() && *is_latest => {
            "move one of the two exports out of SOURCE: --latest leaves out whole exports only, and only older ones"
        }
        _ if !duplicates.is_empty() => {
            "pass --latest to take the newest of two exports of one kind"
        }
        _ if code != ExitCode::Incomplete => {
            "export what is damaged or missing again, or leave those kinds out with --exclude"
        }
        Some(export) => {
            return Some(format!(
                "move {export} out of SOURCE if nothing writes there any more; its kinds are unknown, so --exclude cannot leave it out"
            ));
        }
        None if faults.iter().any(|fault| fault.export == ".") => {
            "name the folder above SOURCE if SOURCE is a part of an export; else wait for the export with --wait 1h"
        }
        None if faults.is_empty() && missing.is_empty() => {
            "export these kinds again, leave them out with --exclude, or allow older ones with --max-spread 48h"
        }
        None => "wait for unfinished exports with --wait 1h, or leave kinds out with --exclude",
    };
    Some(hint.to_owned())
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        let text = error.to_string();
        let failure = match error {
            VerifyError::Store(error) => Failure::from_archive_store(error),
            VerifyError::NoMatch(unmatched) => unmatched.into(),
            VerifyError::MemoryTooSmall { .. } => {
                Failure::usage(text).hint("pass --memory 1GiB or more")
            }
            VerifyError::Worker(error) => error.into(),
        };
        // Also where another command verifies first.
        match failure.code {
            ExitCode::Damaged => failure.prefix("verify"),
            _ => failure.prefix("cannot verify"),
        }
    }
}

impl From<ExtractError> for Failure {
    fn from(error: ExtractError) -> Self {
        let text = error.to_string();
        match error {
            ExtractError::Archive(error) => error.into(),
            ExtractError::Dest(StoreError::AlreadyExists { name }) => {
                Failure::refused(format!("{name} already exists with other contents"))
                    .hint("choose an empty DEST: extract overwrites nothing")
            }
            ExtractError::Dest(StoreError::UnsupportedName { .. }) => Failure::refused(text).hint(
                "run `kindpack restore ARCHIVE --target dir:PATH` to write exports with shortened names",
            ),
            ExtractError::Dest(error) => error.into(),
            ExtractError::NoMatch(unmatched) => unmatched.into(),
            ExtractError::CannotSplitExport { .. } => Failure::usage(text).hint(
                "select all kinds of that export, or run `kindpack restore ARCHIVE --target dir:PATH`, which divides exports",
            ),
            ExtractError::SameName(_) => Failure::refused(text),
            ExtractError::AmongCompanions(_) => Failure::refused(text).hint(
                "pass --only '*' to write the exports alone, and `kindpack restore --companions DEST` for the companions",
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
                failure.hint(NEW_PLAN)
            }
            PlanError::HeadModified | PlanError::PlanModified { .. } => failure.hint(
                "make a new plan for changes other than deleting or reordering steps: `kindpack plan ARCHIVE --target TARGET -o PLAN`",
            ),
            PlanError::EmptySelection { unmatched, .. } => {
                failure.hint(nearest_hint(&unmatched, LIST_KINDS))
            }
            PlanError::Redact(RedactError::NoKind { nearest, .. }) => match nearest {
                Some(nearest) => failure.hint(format!("did you mean {nearest}?")),
                None => failure.hint(LIST_KINDS),
            },
            PlanError::UnknownNamespace { .. } => failure.hint(
                "run `kindpack list ARCHIVE` to see the namespaces; write (default) for the default one",
            ),
            PlanError::NoEmulatorAddress { project } => failure.hint(format!(
                "start an emulator with `gcloud beta emulators datastore start`, and pass --target emulator:{project}@localhost:8081"
            )),
            PlanError::InvalidEmulatorAddress { .. } => failure
                .hint("set DATASTORE_EMULATOR_HOST to an address such as localhost:8081"),
            PlanError::EmulatorVariableSet { variable, .. } => failure.hint(format!(
                "run `unset {variable}` to restore into the real project, or pass --target emulator:PROJECT"
            )),
            PlanError::EmulatorAddressIsGoogle { .. } => {
                failure.hint("pass --target datastore:PROJECT if you mean the real service")
            }
            PlanError::SourceProject { .. } => failure.hint(
                "restore into an emulator with --target emulator:PROJECT; pass --disaster-recovery only to overwrite this project",
            ),
            PlanError::RuleMatchesNothing { rule, nearest } => {
                failure.hint(idle_rule_hint(&rule, nearest.as_deref()))
            }
            PlanError::NoRedactKey { .. } => failure.hint(KEY_HINT),
            PlanError::NoImport { .. } => failure.hint(USE_COMMIT),
            PlanError::WriteOnceTarget { .. } => {
                failure.hint("leave out --on-existing, and choose a new folder")
            }
            PlanError::SameFile { second, .. } => failure.hint(format!(
                "leave one out with --exclude {}, and restore it into another folder",
                shell_quote(&second.to_string())
            )),
            PlanError::NotAPlan { .. } | PlanError::UnknownFormat { .. } => failure.hint(NEW_PLAN),
            _ => failure,
        }
    }
}

/// What to do about a redaction rule that matches nothing.
fn idle_rule_hint(rule: &str, nearest: Option<&str>) -> String {
    let nearest = nearest.map(|nearest| format!("did you mean {nearest}? "));
    format!(
        "{}correct the name, or pass --redact {} if it may match nothing",
        nearest.unwrap_or_default(),
        shell_quote(&format!("?{rule}"))
    )
}

impl From<BackupJournalError> for Failure {
    fn from(error: BackupJournalError) -> Self {
        let text = error.to_string();
        match error {
            BackupJournalError::Store(error) => error.into(),
            BackupJournalError::Impossible(_) => Failure::internal(text),
            BackupJournalError::Busy(_) => Failure::refused(text)
                .hint("wait for the other process, or start a new backup with --new"),
            BackupJournalError::Malformed { .. }
            | BackupJournalError::Contradiction { .. }
            | BackupJournalError::Gap(_) => {
                Failure::refused(text).hint("start a new backup with --new")
            }
        }
    }
}

/// What is wrong with the Datastore that is backed up.
fn source_failed(error: PlanError) -> Failure {
    match &error {
        PlanError::EmulatorVariableSet {
            target,
            variable,
            value,
        } => Failure::refused(format!(
            "{target} is the real service, but {variable} is set to {value:?}"
        ))
        .hint(format!(
            "run `unset {variable}` to back up the real project"
        )),
        PlanError::NoEmulatorAddress { project } => {
            Failure::usage(error.to_string().replacen("target ", "", 1)).hint(format!(
                "start an emulator with `gcloud beta emulators datastore start`, and write emulator:{project}@localhost:8081"
            ))
        }
        _ => error.into(),
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let text = error.to_string();
        let service = |text: &str| Failure::new(ExitCode::Service, text);
        match error {
            BackupError::Source(error) => source_failed(*error),
            BackupError::Journal(error) => error.into(),
            BackupError::Datastore(DatastoreError::Denied { .. }) => service(&text).hint(
                "grant the roles roles/datastore.viewer and roles/datastore.importExportAdmin",
            ),
            BackupError::Datastore(error) => error.into(),
            BackupError::Exports(error) => error.into(),
            BackupError::Pack(error) => {
                let is_taken = matches!(*error, PackError::AlreadyExists(_));
                let failure = Failure::from(*error);
                match is_taken {
                    true => failure.hint(
                        "choose another name, pass --overwrite, or end ARCHIVE in / to let kindpack choose the name",
                    ),
                    false => failure,
                }
            }
            BackupError::Verify(error) => error.into(),
            BackupError::Damaged { problems, .. } => {
                Failure::with_reasons(ExitCode::Damaged, problems)
            }
            BackupError::OperationTimeout { .. } => {
                Failure::new(ExitCode::Partial, text).hint(RUN_AGAIN)
            }
            BackupError::NoSnapshots(_) => service(&text).hint("leave out --snapshot-time"),
            BackupError::SnapshotRefused { advice, .. } => Failure {
                hint: advice,
                ..service(&text)
            },
            BackupError::NoKinds(_) => Failure::new(ExitCode::Incomplete, text).hint(
                "check the name of the project; kinds whose names start with _ are never backed up",
            ),
            BackupError::NoNamespace { nearest, .. } => Failure::usage(text).hint(match nearest {
                Some(nearest) => format!("did you mean {}?", shell_quote(&nearest.to_string())),
                None => "write '(default)' for the default namespace".to_owned(),
            }),
            BackupError::ChoosesNothing(unmatched) => {
                Failure::unmatched(&unmatched, DRY_RUN_SHOWS_KINDS)
            }
            BackupError::NothingSelected => Failure::usage(text).hint(DRY_RUN_SHOWS_KINDS),
            BackupError::Location { .. } => Failure::usage(text),
            BackupError::Busy(_) => Failure::refused(text)
                .hint("wait for the other process, or start a new backup with --new"),
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
                .hint("move the damaged archive away, and prune again"),
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
            TargetError::Io { name, source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Failure::denied(&name)
            }
            TargetError::AlreadyExists { .. } => {
                failure.hint("move it away, or choose another folder")
            }
            TargetError::UnsupportedName { .. } => {
                failure.hint("choose a folder with a shorter path, or on another file system")
            }
            TargetError::Locked { .. } => failure
                .hint("wait for the other restore; its lock expires at that time if it was killed"),
            _ => failure,
        }
    }
}

impl From<DatastoreError> for Failure {
    fn from(error: DatastoreError) -> Self {
        let code = match error {
            DatastoreError::NoKindList { .. } => ExitCode::Usage,
            _ => ExitCode::Service,
        };
        let failure = Failure::new(code, error.to_string());
        match error {
            DatastoreError::Service {
                is_emulator: true, ..
            } => failure.hint(CHECK_EMULATOR),
            DatastoreError::Service { .. } => failure.hint(TRY_LONGER),
            DatastoreError::NoImport { .. } => failure.hint(USE_COMMIT),
            DatastoreError::NoKindList { .. } => failure.hint(
                "start the Datastore emulator, or pack an export that this emulator makes of everything (docs/datastore.md)",
            ),
            DatastoreError::Denied { .. } => {
                failure.hint("grant the role roles/datastore.user, which a restore needs")
            }
            DatastoreError::Unauthorized { .. } => failure.hint(CREDENTIALS),
            DatastoreError::UnknownCall { .. } | DatastoreError::UnexpectedResponse { .. } => {
                failure.hint("check the address and the port: `gcloud beta emulators datastore start` prints those of its emulator")
            }
            DatastoreError::UnknownHost { .. } => {
                failure.hint("correct the name of the host in the address")
            }
            DatastoreError::Refused { .. } => failure,
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
            ImportError::NotImportable { .. } => Failure::refused(text).hint(USE_COMMIT),
            ImportError::InvalidStaging { .. } => Failure::usage(text),
            ImportError::EmulatorCannotRead { .. } => Failure::new(ExitCode::Service, text)
                .hint("name a folder that the emulator can read with --staging DIR"),
            ImportError::Failed { .. } => Failure::new(ExitCode::Service, text),
            ImportError::OperationTimeout { .. } => Failure::new(ExitCode::Partial, text).hint(
                "run the same command again to wait on, or pass a longer --operation-timeout",
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
            JournalFileError::Io { path, source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Failure::denied(&path)
            }
            JournalFileError::Content {
                source: JournalError::OtherPlan { .. },
                ..
            } => failure.hint(
                "add --again to rename that journal and begin a new one, or name another with --journal FILE",
            ),
            JournalFileError::Content { .. } => {
                failure.hint("name another journal with --journal FILE")
            }
            JournalFileError::Busy { .. } => {
                failure.hint("wait for the other restore, or stop it")
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
            .hint("choose another folder for --companions: nothing is overwritten"),
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
            "choose an empty target, or pass --on-existing merge to overwrite the same keys and leave other entities, or --on-existing replace to delete the others of each kind"
        }
        RestoreError::TargetLostData { .. } => {
            "add --again to restore from the start if the target was emptied"
        }
        RestoreError::TargetChanged { target, .. } if target.path().is_some() => {
            "remove what is there and add --again to restore from the start"
        }
        RestoreError::TargetChanged { .. } => {
            "pass --on-existing replace to overwrite what has changed, or empty the target and add --again"
        }
        RestoreError::TooFew { .. } => {
            "start the emulator with --consistency=1.0, or find out what deletes there; then run the same command again"
        }
        RestoreError::StepsFailed { .. } => {
            "run the same command again to retry; add --retry-failed to run the failed steps alone"
        }
        RestoreError::RedactKey { .. } => {
            "set the secret that the plan was made with, or make a new plan"
        }
        RestoreError::Dependencies(DependencyError::TooMany) => {
            "choose a smaller sample, or leave out --with-dependencies"
        }
        RestoreError::Hook(_) => {
            "fix the cause, then run the same command again: it continues with this command"
        }
        _ => return None,
    })
}

impl From<EmulatorError> for Failure {
    fn from(error: EmulatorError) -> Self {
        let text = error.to_string();
        match error {
            EmulatorError::NoJava => Failure::usage(text)
                .hint("install Java 21 or later, or set JAVA_HOME to its folder"),
            EmulatorError::Missing {
                component,
                variable,
                ..
            } => Failure::usage(text).hint(format!(
                "run `gcloud components install {component}`, or set {variable} to where it is"
            )),
            EmulatorError::NotUsable { variable, jar, .. } => Failure::usage(text).hint(format!(
                "set {variable} to the emulator's {jar} or script, or unset it"
            )),
            EmulatorError::NoStart { printed, .. } => {
                let mut failure = Failure::new(ExitCode::Service, text);
                let printed = printed.iter().map(|line| format!("it printed: {line}"));
                failure.why.extend(printed);
                failure
            }
        }
    }
}

#[cfg(test)]
mod texts;
