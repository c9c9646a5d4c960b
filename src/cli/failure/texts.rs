//! Every error of the library, with its exit code and its hint, in `tests/errors/`: one file for
//! each folder of `src/`.
//!
//! An enum must show each of its variants; `VariantNames` knows them. After an intended change,
//! `INSTA_UPDATE=always cargo test --lib cli::failure` accepts the new texts.

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::future::pending;
use std::io;
use std::time::Duration;

use strum::VariantNames;

use super::*;
use crate::archive::deflate::DataError;
use crate::archive::zip::{ZipWriteError, check_name};
use crate::backup::{BackupSourceError, ImpossibleEvent, QueueFileError, SnapshotTimeError};
use crate::config::Config;
use crate::datastore::admin::{ExportError, ExportErrorClass};
use crate::datastore::emulator_product::EmulatorProduct;
use crate::datastore::status::Code;
use crate::encryption::AgeKeyError;
use crate::entity::{ProtoError, ProtoFault, WireError, WireFault, WireType};
use crate::export::discover::Problem;
use crate::export::inspect::RecordError;
use crate::export::metadata::MetadataError;
use crate::export::{LogError, LogFault};
use crate::model::{Crc32c, Kind, Namespace, SelectorError, Sha256, TargetSpec, Timestamp};
use crate::notify::NotifyError;
use crate::pack::StaleExport;
use crate::plan::{CycleLink, OnExisting};
use crate::restore::Difference;
use crate::restore::hooks::HookError;
use crate::restore::journal::{InvalidTransition, JournalError};
use crate::restore::lock::{LeaseError, LockOwner};
use crate::signature::{KeyError, KeyId, PublicKey};
use crate::store::name_limits::NameFault;
use crate::transform::redact::RedactRule;

/// The texts of one folder of `src/`.
#[derive(Default)]
struct ErrorTexts(String);

impl ErrorTexts {
    /// Errors as the command line shows them: variant, exit code, sentence, hint.
    fn failures<E: Into<Failure> + Debug + VariantNames>(self, errors: Vec<E>) -> Self {
        self.each_variant(errors, |error| {
            let failure = error.into();
            let mut text = format!(" ({}): {}", failure.code as u8, failure.why.join("\n    "));
            if let Some(hint) = failure.hint {
                write!(text, "\n    hint: {hint}").unwrap();
            }
            text
        })
    }

    /// Errors that stand within others: variant and sentence.
    fn parts<E: ToString + Debug + VariantNames>(self, errors: Vec<E>) -> Self {
        self.each_variant(errors, |error| format!(": {}", error.to_string()))
    }

    /// An error that is no enum.
    fn one(mut self, error: impl ToString + Debug) -> Self {
        writeln!(self.0, "{}: {}\n", name_of(&error), error.to_string()).unwrap();
        self
    }

    fn each_variant<E: Debug + VariantNames>(
        mut self,
        errors: Vec<E>,
        text: impl Fn(E) -> String,
    ) -> Self {
        let shown: BTreeSet<String> = errors.iter().map(name_of).collect();
        let all: BTreeSet<String> = E::VARIANTS.iter().map(|name| (*name).to_owned()).collect();
        let enum_name = std::any::type_name::<E>().rsplit("::").next().unwrap();
        assert_eq!(shown, all, "variants of {enum_name}");
        writeln!(self.0, "## {enum_name}\n").unwrap();
        for error in errors {
            let name = name_of(&error);
            writeln!(self.0, "{name}{}", without_task_number(&text(error))).unwrap();
        }
        self.0.push('\n');
        self
    }

    fn assert_as_accepted(self, name: &str) {
        insta::with_settings!({
            snapshot_path => "../../../tests/errors", prepend_module_to_snapshot => false,
            omit_expression => true,
        }, { insta::assert_snapshot!(name, self.0) });
    }
}

/// The name of a variant, or of a struct: what `Debug` begins with.
fn name_of(error: &impl Debug) -> String {
    let text = format!("{error:?}");
    let name = text.split(|c: char| !c.is_alphanumeric()).next();
    name.unwrap_or_default().to_owned()
}

/// A text without the number of a task, which differs between runs.
fn without_task_number(text: &str) -> String {
    match text.split_once("task ") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}task N{after}")
        }
        None => text.to_owned(),
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn denied() -> io::Error {
    io::Error::from(io::ErrorKind::PermissionDenied)
}

fn pair() -> KindRef {
    KindRef::new("acme", "Order")
}

fn target(text: &str) -> TargetSpec {
    text.parse().unwrap()
}

fn emulator() -> String {
    text("emulator:shop@localhost:8081")
}

fn time() -> Timestamp {
    "2026-01-31T02:15:00Z".parse().unwrap()
}

fn unmatched(selector: &str) -> UnmatchedSelector {
    UnmatchedSelector::new(
        &selector.parse().unwrap(),
        [pair(), KindRef::new("", "Order")],
    )
}

/// A worker that was lost. Its own text has a number that differs between runs.
fn worker() -> WorkerPanicked {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    WorkerPanicked(runtime.block_on(async {
        let task = tokio::spawn(pending::<()>());
        task.abort();
        task.await.unwrap_err()
    }))
}

fn not_found() -> StoreError {
    StoreError::NotFound {
        name: text("set.zip"),
        what: "file",
    }
}

fn other_archive() -> ArchiveError {
    ArchiveError::NotAZip {
        archive: text("set.zip"),
    }
}

fn no_answer() -> DatastoreError {
    DatastoreError::Service {
        call: text("commit into emulator:shop"),
        tries: 5,
        seconds: 60,
        found: text("cannot connect: connection refused"),
        is_emulator: true,
    }
}

#[test]
fn store_errors_read_as_accepted() {
    let name = || text("gs://shop/nightly/set.zip");
    let store = vec![
        not_found(),
        StoreError::NoBucket {
            bucket: text("gs://shop"),
        },
        StoreError::AlreadyExists { name: name() },
        StoreError::Changed { name: name() },
        StoreError::InvalidName { name: name() },
        StoreError::UnsupportedName {
            name: name(),
            fault: NameFault::Object { most: 1024 },
        },
        StoreError::NotAFile {
            name: text("exports"),
            fault: "is a folder, not a file",
        },
        StoreError::Busy { name: name() },
        StoreError::Denied {
            name: name(),
            permission: "storage.objects.get",
            found: text("HTTP 403"),
        },
        StoreError::Unauthorized {
            call: text("credentials"),
            fault: "the file holds no credentials",
        },
        StoreError::InvalidAddress {
            variable: "STORAGE_EMULATOR_HOST",
            found: text("ftp://localhost"),
        },
        StoreError::BillingProjectRequired { name: name() },
        StoreError::Service {
            call: text("list of gs://shop/nightly/"),
            tries: 7,
            seconds: 600,
            found: text("HTTP 503"),
        },
        StoreError::Refused {
            name: name(),
            found: text("HTTP 400"),
        },
        StoreError::Held {
            name: name(),
            found: text("HTTP 403: the object is under a temporary hold"),
        },
        StoreError::Corrupt {
            name: name(),
            expected: 0x1234_abcd,
            found: 1,
        },
        StoreError::UploadLost {
            name: name(),
            reason: text("parts of it are gone"),
        },
        StoreError::Encrypted { name: name() },
        StoreError::NotDecrypted {
            name: name(),
            error: DecryptionError::WrongIdentity,
        },
        StoreError::WrongDigest {
            name: name(),
            expected: Sha256([1; 32]),
            found: Sha256([2; 32]),
        },
        StoreError::Io {
            name: text("out/set.zip"),
            deed: "writing",
            source: denied(),
        },
    ];
    ErrorTexts::default()
        .failures(store)
        .failures(vec![
            LocationError::Empty,
            LocationError::NoBucket(text("gs://")),
            LocationError::Misspelt {
                text: text("gs:/shop/set.zip"),
                meant: text("gs://shop/set.zip"),
            },
            LocationError::OtherScheme(text("s3://shop/set.zip")),
            LocationError::Tilde(text("~/set.zip")),
        ])
        .assert_as_accepted("store");
}

#[test]
fn signature_errors_read_as_accepted() {
    ErrorTexts::default()
        .parts(vec![
            KeyError::NotASecretKey,
            KeyError::NotAPublicKey,
            KeyError::PasswordRequired,
            KeyError::WrongPassword,
        ])
        .parts(vec![
            SignatureError::Malformed,
            SignatureError::Legacy,
            SignatureError::OtherKey {
                expected: key_id(),
                found: key_id(),
            },
            SignatureError::Mismatch(key_id()),
            SignatureError::Worker(worker()),
        ])
        .assert_as_accepted("signature");
}

#[test]
fn encryption_errors_read_as_accepted() {
    ErrorTexts::default()
        .parts(vec![
            AgeKeyError::NotARecipient(text("age2x")),
            AgeKeyError::NotARecipientLine(3),
            AgeKeyError::NoRecipient,
            AgeKeyError::NotAnIdentityLine(3),
            AgeKeyError::NoIdentity,
            AgeKeyError::TooManyRecipients,
        ])
        .parts(vec![
            DecryptionError::WrongIdentity,
            DecryptionError::Passphrase,
            DecryptionError::Damaged(text("the chunk at bytes 312 to 65863 does not decrypt")),
        ])
        .assert_as_accepted("encryption");
}

fn key_id() -> KeyId {
    let text =
        "untrusted comment: a key\nRWQIQ5DMgeHq90oJ34Yy0t+5Wkvllmh3tS+Z9QQrUhyU7SlwUiKYA+/U\n";
    PublicKey::parse(text).unwrap().id()
}

#[test]
fn archive_errors_read_as_accepted() {
    let broken = || check_name("../set").unwrap_err();
    let signature = || text("set.zip.minisig");
    let entry = || text("exports/a/output-0");
    ErrorTexts::default()
        .failures(vec![
            ArchiveError::Store(not_found()),
            other_archive(),
            ArchiveError::Empty {
                archive: text("set.zip"),
            },
            ArchiveError::NoZipEnd {
                archive: text("set.zip"),
            },
            ArchiveError::Structure {
                archive: text("set.zip"),
                violation: broken(),
            },
            ArchiveError::NoManifest {
                archive: text("set.zip"),
            },
            ArchiveError::BadManifest {
                archive: text("set.zip"),
                fault: text("expected format \"kindpack/1\", found \"zip/1\""),
            },
            ArchiveError::NewerFormat {
                archive: text("set.zip"),
                format: text("kindpack/2"),
            },
            ArchiveError::Data {
                entry: entry(),
                fault: text("expected crc32 00000001, found 00000002"),
            },
            ArchiveError::Worker(worker()),
        ])
        .failures(vec![
            SignedArchiveError::Missing {
                signature: signature(),
            },
            SignedArchiveError::Bad {
                signature: signature(),
                error: SignatureError::Mismatch(key_id()),
            },
            SignedArchiveError::Store(not_found()),
        ])
        .parts(vec![
            UnpackError::Archive(other_archive()),
            UnpackError::Dest(not_found()),
            UnpackError::Worker(worker()),
        ])
        .parts(vec![
            ZipWriteError::Refused(broken()),
            ZipWriteError::StillOpen { entry: entry() },
            ZipWriteError::NoneOpen,
            ZipWriteError::SizeMismatch {
                entry: entry(),
                what: "length",
                expected: 7,
                found: 8,
            },
            ZipWriteError::TooLong {
                entry: entry(),
                what: "length",
                limit: 100,
                found: 101,
            },
        ])
        .parts(vec![
            DataError::NotDeflate { after: 803 },
            DataError::TooLong { expected: 12 },
            DataError::TooShort {
                expected: 12,
                found: 11,
            },
            DataError::EndsEarly { compressed_len: 9 },
            DataError::NoStreamEnd { compressed_len: 9 },
            DataError::WrongCrc32 {
                expected: 1,
                found: 2,
            },
            DataError::DeflateStopped {
                expected: 12,
                found: 11,
            },
            DataError::LongPiece { max: 10, found: 11 },
            DataError::NoSyncBorder,
            DataError::FinalBlock,
        ])
        .assert_as_accepted("archive");
}

#[test]
fn export_and_entity_errors_read_as_accepted() {
    let field = "export_metadata_file";
    let log = || LogError {
        offset: 7,
        reason: LogFault::UnfinishedRecord,
    };
    let wire = || WireError {
        offset: 7,
        reason: WireFault::Truncated,
    };
    let entity = || ProtoError {
        offset: 7,
        reason: ProtoFault::IdAndName,
    };
    ErrorTexts::default()
        .one(log())
        .parts(vec![
            LogFault::BadChecksum {
                expected: Crc32c(1),
                found: Crc32c(2),
            },
            LogFault::LengthPastBlock { room: 5, found: 9 },
            LogFault::UnknownType { found: 9 },
            LogFault::NonZeroPadding,
            LogFault::FragmentOrder {
                expected: "a MIDDLE or LAST",
                found: "a FIRST",
            },
            LogFault::Truncated {
                expected: 9,
                found: 5,
            },
            LogFault::UnfinishedRecord,
            LogFault::RecordTooLarge,
            LogFault::PieceOutOfPlace { expected: 9 },
        ])
        .parts(vec![
            MetadataError::Log(log()),
            MetadataError::Wire(wire()),
            MetadataError::Entity {
                record: 1,
                source: entity(),
            },
            MetadataError::UnknownVersion {
                expected: "3",
                found: text("4"),
            },
            MetadataError::RecordCount {
                expected: "2",
                found: 1,
            },
            MetadataError::Missing { field },
            MetadataError::Negative { field, found: -1 },
            MetadataError::UnknownChoice {
                field,
                expected: "1 or 2",
                found: 3,
            },
            MetadataError::BadTime { field, found: -1 },
            MetadataError::OtherEntity {
                record: 1,
                expected: "_AE_Backup_Information",
                found: text("Order"),
            },
            MetadataError::OtherValue {
                record: 1,
                property: "name",
                expected: "text",
            },
        ])
        .parts(vec![
            RecordError::Log(log()),
            RecordError::Entity(entity()),
            RecordError::Gzip(text("unexpected end of file")),
        ])
        .one(wire())
        .parts(vec![
            WireFault::Truncated,
            WireFault::VarintTooLong,
            WireFault::FieldNumber,
            WireFault::WireType { found: 7 },
            WireFault::GroupEnd { found: 7 },
            WireFault::GroupsTooDeep,
            WireFault::FieldType {
                field: 1,
                expected: WireType::Bytes,
                found: WireType::Varint,
            },
            WireFault::NotText { field: 1 },
        ])
        .one(entity())
        .parts(vec![
            ProtoFault::Wire(WireFault::Truncated),
            ProtoFault::TooDeep,
            ProtoFault::TooManyParts,
            ProtoFault::IdAndName,
            ProtoFault::IncompleteKey { missing: "project" },
        ])
        .assert_as_accepted("export_and_entity");
}

#[test]
fn model_errors_read_as_accepted() {
    ErrorTexts::default()
        .one("12".parse::<Sha256>().unwrap_err())
        .one("shop".parse::<TargetSpec>().unwrap_err())
        .one("datastore:123".parse::<TargetSpec>().unwrap_err())
        .one("five".parse::<crate::model::Sample>().unwrap_err())
        .one("yesterday".parse::<Timestamp>().unwrap_err())
        .one(unmatched("order"))
        .parts(vec![
            SelectorError::NoKind(text("acme/")),
            SelectorError::BadEscape { text: text(r"a\b") },
        ])
        .assert_as_accepted("model");
}

#[test]
fn datastore_and_target_errors_read_as_accepted() {
    let call = || text("commit into emulator:shop");
    ErrorTexts::default()
        .failures(vec![
            no_answer(),
            DatastoreError::Refused {
                call: call(),
                found: text("HTTP 400 INVALID_ARGUMENT"),
            },
            DatastoreError::UnknownHost {
                call: text("runQuery of project shop at http://emulater:8081"),
            },
            DatastoreError::UnknownCall { call: call() },
            DatastoreError::NoImport { call: call() },
            DatastoreError::NoKindList {
                call: text("list of kinds of project shop at http://localhost:8081"),
                product: EmulatorProduct::Firestore,
            },
            DatastoreError::Denied {
                call: call(),
                found: text("HTTP 403 PERMISSION_DENIED"),
            },
            DatastoreError::Unauthorized {
                call: call(),
                fault: "the service asks for credentials (HTTP 401)",
            },
            DatastoreError::UnexpectedResponse {
                call: call(),
                missing: "count",
            },
        ])
        .failures(vec![
            EmulatorError::NoJava,
            EmulatorError::Missing {
                what: "the Datastore emulator",
                places: "on PATH (cloud_datastore_emulator) nor in the folder of gcloud",
                component: "cloud-datastore-emulator",
                variable: "KINDPACK_DATASTORE_EMULATOR",
            },
            EmulatorError::NotUsable {
                variable: "KINDPACK_DATASTORE_EMULATOR",
                given: text("emulator.jar"),
                reason: text("is not a file"),
                jar: "CloudDatastore.jar",
            },
            EmulatorError::NoStart {
                product: EmulatorProduct::Datastore,
                reason: text("it ended (exit status: 1)"),
                printed: vec![text("Address already in use")],
            },
        ])
        .one(ExportError {
            call: text("export of acme/Order"),
            class: ExportErrorClass::Permanent,
            code: Code::PermissionDenied,
            message: text("HTTP 403 PERMISSION_DENIED"),
            advice: None,
        })
        .failures(vec![
            TargetError::Datastore(no_answer()),
            TargetError::Refused {
                call: text("deleting acme/Order"),
                reason: text("this target deletes nothing"),
            },
            TargetError::EntityRejected {
                kind: Kind::new("Order"),
                number: 777,
                reason: text("HTTP 400 INVALID_ARGUMENT"),
            },
            TargetError::Locked {
                target: text("project shop"),
                holder: text("ann on red"),
                until: time(),
            },
            TargetError::TooLarge {
                kind: Kind::new("Order"),
                number: 777,
                part: text("property note"),
                bytes: 1_048_488,
                limit: 1_048_487,
            },
            TargetError::AlreadyExists { name: text("out") },
            TargetError::UnsupportedName {
                name: text("out/acme/Order.ndjson"),
                fault: NameFault::Path { most: 4095 },
            },
            TargetError::Unreadable {
                name: text("out/output-0"),
                fault: log_text(),
            },
            TargetError::Io {
                name: text("out"),
                deed: "creating the folder",
                source: denied(),
            },
            TargetError::Worker(worker()),
        ])
        .assert_as_accepted("datastore_and_targets");
}

fn log_text() -> String {
    text("log at byte 7: the log ends within a record")
}

#[test]
fn plan_errors_read_as_accepted() {
    let rule = || text("Customer.mail=hash");
    let place = |selector: &str| CycleLink {
        pair: KindRef::new("", selector),
        word: text("--depends-on Order=Product"),
    };
    let redact = || RedactError::NoKind {
        rule: rule(),
        nearest: None,
    };
    let archive = text("/backups/set.zip");
    ErrorTexts::default()
        .failures(vec![
            PlanError::EmptySelection {
                option: text("--only"),
                unmatched: unmatched("default/order"),
            },
            PlanError::UnknownNamespace {
                from: Namespace::new("acne"),
                to: Namespace::new("beta"),
            },
            PlanError::NoEmulatorAddress {
                project: text("shop"),
            },
            PlanError::InvalidEmulatorAddress {
                found: text("localhost"),
            },
            PlanError::FirstAndLast {
                pair: pair(),
                first: text("--first Order"),
                last: text("--last acme/*"),
            },
            PlanError::EmptyConstraint {
                word: text("--depends-on Order=Order"),
            },
            PlanError::NothingToAdd,
            PlanError::WriteOnceTarget {
                on_existing: OnExisting::Merge,
                target: target("dir:out"),
            },
            PlanError::NoImport {
                reason: text("dir:out has no import of its own"),
            },
            PlanError::Staging {
                fault: "it needs --via import",
            },
            PlanError::NoRedactKey { rule: rule() },
            PlanError::RuleMatchesNothing {
                rule: rule(),
                nearest: Some(text("Customer.email")),
            },
            PlanError::Redact(redact()),
            PlanError::ConstraintCycle {
                circle: vec![place("Order"), place("Product")],
            },
            PlanError::Collision {
                kind: Kind::new("Order"),
                first: Namespace::new("acme"),
                second: Namespace::new("beta"),
                to: Namespace::default(),
            },
            PlanError::SameFile {
                first: pair(),
                second: KindRef::new("acme", "order"),
            },
            PlanError::SourceProject {
                target: target("datastore:shop"),
                project: text("shop"),
            },
            PlanError::EmulatorVariableSet {
                target: target("datastore:shop"),
                variable: text("DATASTORE_EMULATOR_HOST"),
                value: text("localhost:8081"),
            },
            PlanError::EmulatorAddressIsGoogle {
                target: target("emulator:shop@datastore.googleapis.com:443"),
            },
            PlanError::RepeatedKind { pair: pair() },
            PlanError::NotAPlan {
                fault: text("it is JSON of another kind"),
            },
            PlanError::UnknownFormat {
                expected: "kindpack-plan/1",
                found: text("kindpack-plan/2"),
            },
            PlanError::ArchiveChanged {
                location: archive,
                expected: Sha256([1; 32]),
                found: Sha256([2; 32]),
            },
            PlanError::HeadModified,
            PlanError::PlanModified {
                what: text("step 3 (acme/Order): entities"),
                expected: text("90"),
                found: text("91"),
            },
        ])
        .failures(vec![
            ChoiceError::Spelling {
                what: "order",
                text: text("Order"),
                fault: "has no `=`: write A=B to restore A after B".into(),
            },
            ChoiceError::Side {
                text: text("Order=acme/"),
                source: SelectorError::NoKind(text("acme/")),
            },
        ])
        .one(Config::read("[profil]", "kindpack.toml", "".as_ref()).unwrap_err())
        .one("Customer.mail".parse::<RedactRule>().unwrap_err())
        .parts(vec![
            redact(),
            RedactError::KeyAction { rule: rule() },
            RedactError::KeyPlace { rule: rule() },
            RedactError::NoKey { rule: rule() },
        ])
        .assert_as_accepted("plan");
}

#[test]
fn restore_errors_read_as_accepted() {
    let journal = || InvalidTransition {
        event: "step-finished",
        expected: text("a step of the plan"),
        found: text("step 9"),
    };
    let lost = || text("plan.json.journal");
    ErrorTexts::default()
        .failures(vec![
            RestoreError::Plan(PlanError::NothingToAdd),
            RestoreError::Journal(JournalFileError::Busy { path: lost() }),
            RestoreError::Archive(other_archive()),
            RestoreError::Target(TargetError::AlreadyExists { name: text("out") }),
            RestoreError::Import(ImportError::InvalidStaging {
                fault: "the service imports from gs://BUCKET/NAME only",
            }),
            RestoreError::Companions(UnpackError::Dest(StoreError::AlreadyExists {
                name: text("images/a.png"),
            })),
            RestoreError::Redact(RedactError::NoKind {
                rule: text("Custmer.mail=hash"),
                nearest: Some(text("Customer.mail=hash")),
            }),
            RestoreError::RedactKey {
                fault: "is not the secret that the plan was made with",
            },
            RestoreError::Dependencies(DependencyError::TooMany),
            RestoreError::Hook(HookError::TooLong {
                option: "--after-step",
                seconds: 600,
            }),
            RestoreError::Step {
                pair: pair(),
                error: Box::new(RestoreError::Target(TargetError::Datastore(no_answer()))),
            },
            RestoreError::NotEmpty {
                target: emulator(),
                found: vec![(pair(), 7)],
            },
            RestoreError::TargetLostData {
                target: emulator(),
                found: vec![(pair(), 7)],
            },
            RestoreError::TargetChanged {
                target: target("emulator:shop@localhost:8081"),
                differences: vec![Difference::Entities {
                    pair: pair(),
                    differing: 2,
                }],
            },
            RestoreError::WrongCount {
                pair: pair(),
                expected: 8,
                found: 7,
                place: "in the target",
            },
            RestoreError::TooFew {
                pair: pair(),
                expected: 8,
                found: 7,
            },
            RestoreError::Mismatch {
                pair: pair(),
                differing: 2,
            },
            RestoreError::StepsFailed {
                failed: 2,
                first: Box::new(RestoreError::LeaseLost { target: emulator() }),
            },
            RestoreError::LeaseLost { target: emulator() },
            RestoreError::Stopped { done: 3, steps: 27 },
        ])
        .failures(vec![
            JournalFileError::Io {
                path: lost(),
                deed: "opening",
                source: denied(),
            },
            JournalFileError::NotAFile { path: lost() },
            JournalFileError::Busy { path: lost() },
            JournalFileError::Content {
                path: lost(),
                source: JournalError::TooLong {
                    line: 7,
                    max_bytes: 100,
                },
            },
            JournalFileError::InvalidTransition(journal()),
            JournalFileError::Worker(worker()),
        ])
        .one(journal())
        .parts(vec![
            JournalError::Damaged {
                line: 7,
                expected: text("crc 00000001"),
                found: text("crc 00000002"),
            },
            JournalError::NotAnEvent {
                line: 7,
                fault: text("missing field `event`"),
            },
            JournalError::InvalidTransition {
                line: 7,
                source: journal(),
            },
            JournalError::TooLong {
                line: 7,
                max_bytes: 100,
            },
            JournalError::OtherPlan {
                plan_sha256: Sha256([1; 32]),
                target: emulator(),
                began: time(),
                done: 3,
                steps: 27,
            },
            JournalError::WrongStep {
                step: 3,
                pair: pair(),
                expected: 8,
                found: 7,
            },
            JournalError::OtherSteps {
                difference: text("expected 27 steps, found 3"),
            },
            JournalError::OtherTarget {
                expected: emulator(),
                found: text("dir:out"),
            },
        ])
        .parts(vec![
            LeaseError::Held {
                target: emulator(),
                holder: Some(LockOwner {
                    pid: 7,
                    plan: text("plan.json"),
                    since: time(),
                }),
            },
            LeaseError::Io {
                path: text("leases/1.lease"),
                deed: "locking",
                source: denied(),
            },
        ])
        .failures(vec![
            PrepareError::Archive(other_archive()),
            PrepareError::Plan(PlanError::NothingToAdd),
        ])
        .parts(vec![
            Difference::Count {
                pair: pair(),
                expected: 8,
                found: 7,
            },
            Difference::Entities {
                pair: pair(),
                differing: 2,
            },
            Difference::Unreadable {
                error: text("opening out/acme/Order.ndjson failed: permission denied"),
            },
        ])
        .parts(vec![
            HookError::Failed {
                option: "--after-step",
                status: std::os::unix::process::ExitStatusExt::from_raw(3 << 8),
            },
            HookError::TooLong {
                option: "--after-step",
                seconds: 600,
            },
            HookError::NoShell {
                option: "--after-step",
                source: denied(),
            },
        ])
        .parts(vec![
            DependencyError::Archive(other_archive()),
            DependencyError::TooMany,
        ])
        .failures(vec![
            ImportError::Archive(other_archive()),
            ImportError::Staging(not_found()),
            ImportError::Datastore(no_answer()),
            ImportError::EmulatorCannotRead {
                error: no_answer(),
                folder: text("/tmp/staging"),
            },
            ImportError::Failed {
                operation: text("operations/7"),
                reason: text("NOT_FOUND"),
            },
            ImportError::OperationTimeout {
                operation: text("operations/7"),
                timeout: Duration::from_secs(3600),
            },
            ImportError::NotImportable {
                pair: pair(),
                reason: text("it is a backup of the old Datastore Admin"),
            },
            ImportError::InvalidStaging {
                fault: "the service imports from gs://BUCKET/NAME only",
            },
            ImportError::Worker(worker()),
        ])
        .assert_as_accepted("restore");
}

#[test]
fn pack_verify_extract_and_prune_errors_read_as_accepted() {
    let fault = |reason: &str| ExportFault {
        export: text("2026-01-31/Order"),
        fault: Problem::incomplete("2026-01-31/Order/output-0", reason),
    };
    ErrorTexts::default()
        .failures(vec![
            PackError::IncompleteSet {
                faults: vec![fault("no such object, although the metadata list it")],
                unnamed: Vec::new(),
                duplicates: Vec::new(),
                missing: vec![UnmatchedSelector {
                    selector: Box::new("Customr".parse().unwrap()),
                    nearest: Some(Box::new("Customer".parse().unwrap())),
                }],
                stale: vec![StaleExport {
                    kinds: text("acme/Order"),
                    export: text("2026-01-29/Order"),
                    started: time(),
                    newest: Timestamp::from_micros(time().micros() + 172_800_000_000).unwrap(),
                }],
                is_latest: false,
            },
            PackError::NoExport,
            PackError::EmptySelection,
            PackError::CannotSplitExport {
                export: text("2026-01-31/all"),
                wanted: text("acme/Order"),
                unwanted: text("acme/Customer"),
            },
            PackError::MultipleProjects(vec![text("shop"), text("test")]),
            PackError::AlreadyExists(text("set.zip")),
            PackError::SourceChanged(StoreError::Changed {
                name: text("exports/output-0"),
            }),
            PackError::Source(StoreError::NotFound {
                name: text("exports"),
                what: "folder",
            }),
            PackError::Dest(StoreError::Busy {
                name: text("set.zip"),
            }),
            PackError::Zip(ZipWriteError::NoneOpen),
            PackError::IncompleteArchive,
            PackError::MemoryTooSmall {
                name: text("a.export_metadata"),
            },
            PackError::NoMatch(unmatched("Nothing")),
            PackError::SameCompanion(text("companions/a.png")),
            PackError::NotMissing(pair()),
            PackError::OtherSignature(text("set.zip.minisig")),
            PackError::NotSigned(text("set.zip")),
            PackError::NotEncrypted(text("set.zip.age")),
            PackError::Deflate(DataError::NoSyncBorder),
            PackError::Worker(worker()),
        ])
        .failures(vec![
            VerifyError::Store(not_found()),
            VerifyError::MemoryTooSmall {
                name: text("a.export_metadata"),
            },
            VerifyError::NoMatch(unmatched("order")),
            VerifyError::Worker(worker()),
        ])
        .failures(vec![
            ExtractError::Archive(other_archive()),
            ExtractError::Dest(StoreError::AlreadyExists {
                name: text("out/output-0"),
            }),
            ExtractError::NoMatch(unmatched("order")),
            ExtractError::CannotSplitExport {
                entry: text("exports/all/output-0"),
                other: pair(),
            },
            ExtractError::SameName(text("out/output-0")),
            ExtractError::AmongCompanions(text("companions/output-0")),
            ExtractError::Worker(worker()),
        ])
        .failures(vec![
            PruneError::Store(not_found()),
            PruneError::Verify(VerifyError::Store(not_found())),
            PruneError::Damaged(vec![text("set.zip: expected sha256 1, found 2")]),
        ])
        .assert_as_accepted("pack_verify_extract_prune");
}

#[test]
fn backup_and_notify_errors_read_as_accepted() {
    let event = || ImpossibleEvent {
        event: "export-finished",
        expected: "a running export",
        found: text("a pending export"),
    };
    let id = || text("20260131021500");
    ErrorTexts::default()
        .failures(vec![
            BackupError::Source(Box::new(PlanError::NoEmulatorAddress {
                project: text("shop"),
            })),
            BackupError::Location {
                location: text("exports"),
                reason: "the service exports to gs://BUCKET/NAME only",
            },
            BackupError::NoSnapshots(emulator()),
            BackupError::SnapshotRefused {
                reason: text("the requested snapshot version is too old"),
                advice: Some(text("choose a later --snapshot-time")),
            },
            BackupError::NoKinds(text("datastore:shop")),
            BackupError::NoNamespace {
                namespace: Namespace::new("acne"),
                nearest: Some(Namespace::new("acme")),
            },
            BackupError::ChoosesNothing(unmatched("order")),
            BackupError::NothingSelected,
            BackupError::Busy(id()),
            BackupError::Lock {
                path: text("locks/1.backup-lock"),
                source: denied(),
            },
            BackupError::Journal(BackupJournalError::Gap(text("journal/000002"))),
            BackupError::Datastore(no_answer()),
            BackupError::OperationTimeout {
                operation: text("operations/7"),
                timeout: Duration::from_secs(24 * 3_600),
            },
            BackupError::Exports(not_found()),
            BackupError::Pack(Box::new(PackError::NoExport)),
            BackupError::Verify(VerifyError::Store(not_found())),
            BackupError::Damaged {
                archive: text("set.zip"),
                problems: vec![text("set.zip: expected sha256 1, found 2")],
            },
        ])
        .one(event())
        .failures(vec![
            BackupJournalError::Busy(id()),
            BackupJournalError::Malformed {
                segment: text("journal/000002"),
                reason: text("it is too long"),
            },
            BackupJournalError::Contradiction {
                segment: text("journal/000002"),
                source: event(),
            },
            BackupJournalError::Gap(text("journal/000002")),
            BackupJournalError::Impossible(event()),
            BackupJournalError::Store(not_found()),
        ])
        .parts(vec![
            BackupSourceError::Spelling("shop".parse::<TargetSpec>().unwrap_err()),
            BackupSourceError::NotADatastore(text("dir:out")),
        ])
        .one("fast".parse::<crate::backup::Rate>().unwrap_err())
        .parts(vec![
            SnapshotTimeError::Time("yesterday".parse::<Timestamp>().unwrap_err()),
            SnapshotTimeError::NotAMinute(time()),
        ])
        .parts(vec![
            QueueFileError::NoPath(text(":backups")),
            QueueFileError::Malformed(text("missing field `queue`")),
            QueueFileError::BadRate {
                name: text("backups"),
                found: text("fast"),
            },
            QueueFileError::BadSeconds {
                name: text("backups"),
                found: text("-1"),
            },
            QueueFileError::Paused(text("backups")),
            QueueFileError::Missing {
                name: text("backup"),
                found: vec![text("backups"), text("mails")],
            },
            QueueFileError::Ambiguous(vec![text("backups"), text("mails")]),
            QueueFileError::Empty,
        ])
        .parts(vec![
            NotifyError::Secret {
                from: text("file:token"),
                reason: text("permission denied"),
            },
            NotifyError::Setup {
                what: text("webhook"),
                reason: text("the address is not HTTPS"),
            },
            NotifyError::Refused {
                call: text("POST to example.com"),
                reason: text("HTTP 404"),
            },
            NotifyError::Exhausted {
                call: text("POST to example.com"),
                attempts: 5,
                seconds: 60,
                reason: text("HTTP 503"),
            },
        ])
        .assert_as_accepted("backup_and_notify");
}

#[test]
fn numbers_of_the_system_are_left_out() {
    let full = io::Error::from_raw_os_error(28);
    let failure = Failure::io("a.zip", &full);
    assert_eq!(failure.why, ["a.zip: No space left on device"]);
    for other in [
        "a (os error b)",
        "a (os error )",
        "a (os error 5",
        "(os error 5)",
    ] {
        assert_eq!(without_error_numbers(other), other);
    }
}
