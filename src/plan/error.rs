//! Why there is no plan, or why a plan must not be run.
//!
//! Knows classes of errors, not exit codes; those belong to the command line.

use super::OnExisting;
use crate::model::{Kind, KindRef, Namespace, Sha256, TargetSpec, UnmatchedSelector};
use crate::transform::redact::RedactError;

/// What the command line makes of a [`PlanError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanClass {
    /// The choices do not fit the archive, or one another.
    Usage,
    /// The choices are clear, but carrying them out could do harm; or the plan is not what it was.
    Refused,
}

/// Why there is no plan, or why a plan must not be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum PlanError {
    /// A selector that chooses no pair of the archive.
    #[error("{option}: {unmatched}")]
    EmptySelection {
        /// Where it was given, such as `--only` or `order.toml: first`.
        option: String,
        /// The selector.
        unmatched: UnmatchedSelector,
    },
    /// A map from a namespace that the archive neither holds nor refers to.
    #[error("--map-namespace {from}={to}: the archive has no namespace {from}")]
    UnknownNamespace {
        /// The namespace that is not there.
        from: Namespace,
        /// Where it should have gone.
        to: Namespace,
    },
    /// An emulator is named, but not where it listens.
    #[error("target emulator:{project} has no address, and DATASTORE_EMULATOR_HOST is not set")]
    NoEmulatorAddress {
        /// The project in the emulator.
        project: String,
    },
    /// `DATASTORE_EMULATOR_HOST` is no address.
    #[error("DATASTORE_EMULATOR_HOST: {found:?} is not HOST:PORT")]
    InvalidEmulatorAddress {
        /// Its value, without any password.
        found: String,
    },
    /// One pair is wished to both ends.
    #[error("{pair} cannot be both first and last: {first}, {last}")]
    FirstAndLast {
        /// The pair.
        pair: KindRef,
        /// The word that puts it in front, such as `--first Order`.
        first: String,
        /// The word that puts it at the end.
        last: String,
    },
    /// Both sides of `A=B` choose the same pairs.
    #[error("{word} names the same kinds on both sides")]
    EmptyConstraint {
        /// The user's word, such as `--depends-on Order=Order`.
        word: String,
    },
    /// There is nothing that could be needed besides.
    #[error("--with-dependencies needs --only, --sample or --limit")]
    NothingToAdd,
    /// The target is written whole and can neither merge nor delete.
    #[error("--on-existing {on_existing}: {target} is always written from scratch")]
    WriteOnceTarget {
        /// What was requested.
        on_existing: OnExisting,
        /// The target.
        target: TargetSpec,
    },
    /// The import of the target's own cannot do that.
    #[error("--via import is not possible: {reason}")]
    NoImport {
        /// Why not.
        reason: String,
    },
    /// Exports cannot be laid down there, or need not.
    #[error("--staging: {fault}")]
    Staging {
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A rule needs a key, and there is none.
    #[error("--redact {rule} needs a secret in KINDPACK_REDACT_KEY")]
    NoRedactKey {
        /// The first such rule.
        rule: String,
    },
    /// A rule matches nothing, so that what it was to hide may be restored as it is.
    #[error("--redact {rule} matches no property of the archive")]
    RuleMatchesNothing {
        /// The rule.
        rule: String,
        /// The left side of the rule that was probably meant, where the properties are known.
        nearest: Option<String>,
    },
    /// A rule that cannot be applied to this archive.
    #[error(transparent)]
    Redact(#[from] RedactError),
    /// The user's own words contradict one another.
    #[error("the given order contradicts itself: {}", join_links(.circle))]
    ConstraintCycle {
        /// Each must stand before the next, the last before the first.
        circle: Vec<CycleLink>,
    },
    /// Two steps would write the same kind of the same namespace.
    #[error("kind {kind} of {first} and of {second} would both go to namespace {to}")]
    Collision {
        /// The kind of both.
        kind: Kind,
        /// The namespace of one.
        first: Namespace,
        /// The namespace of the other.
        second: Namespace,
        /// Where both go.
        to: Namespace,
    },
    /// Two steps would write one file, at least on some file systems.
    #[error("{first} and {second} have names that some file systems treat as one")]
    SameFile {
        /// One step.
        first: KindRef,
        /// The other.
        second: KindRef,
    },
    /// The target is the project that the backup was made of.
    #[error("target {target} is the project that the backup was made of, {project}")]
    SourceProject {
        /// The target.
        target: TargetSpec,
        /// The source project.
        project: String,
    },
    /// The real service is named while an emulator is set up.
    #[error("target {target} is the real service, but {variable} is set to {value:?}")]
    EmulatorVariableSet {
        /// The target.
        target: TargetSpec,
        /// The variable that speaks of an emulator.
        variable: String,
        /// Its value.
        value: String,
    },
    /// The emulator's address is one of Google's own.
    #[error("target {target} is the address of the real service, not of an emulator")]
    EmulatorAddressIsGoogle {
        /// The target, its address filled in.
        target: TargetSpec,
    },
    /// A manifest that lists a pair twice.
    #[error("the manifest lists {pair} twice")]
    RepeatedKind {
        /// The pair.
        pair: KindRef,
    },
    /// A text that is no plan.
    #[error("not a plan of kindpack: {fault}")]
    NotAPlan {
        /// What is wrong, with line and column.
        fault: String,
    },
    /// A plan of another version of the format.
    #[error("expected plan format {expected}, found {found:?}")]
    UnknownFormat {
        /// The format that is read here.
        expected: &'static str,
        /// The format that the plan names.
        found: String,
    },
    /// The plan was made for other bytes.
    #[error(
        "{location} is not the archive of this plan: expected sha256 {expected}, found {found}"
    )]
    ArchiveChanged {
        /// Where the plan has the archive.
        location: String,
        /// The archive that was planned for.
        expected: Sha256,
        /// The archive that is there.
        found: Sha256,
    },
    /// Something before the steps was changed, which is not for people to change.
    #[error("the plan was edited outside `steps`")]
    HeadModified,
    /// Something in the plan was changed that is not for people to change.
    #[error("the plan was edited: {what}: expected {expected}, found {found}")]
    PlanModified {
        /// Which part.
        what: String,
        /// What the planner had written, or what must hold there.
        expected: String,
        /// What stands there.
        found: String,
    },
}

impl PlanError {
    /// Whether the choices are wrong or the act is refused.
    pub fn class(&self) -> PlanClass {
        match self {
            PlanError::EmptySelection { .. }
            | PlanError::UnknownNamespace { .. }
            | PlanError::NoEmulatorAddress { .. }
            | PlanError::InvalidEmulatorAddress { .. }
            | PlanError::FirstAndLast { .. }
            | PlanError::EmptyConstraint { .. }
            | PlanError::NothingToAdd
            | PlanError::WriteOnceTarget { .. }
            | PlanError::NoImport { .. }
            | PlanError::Staging { .. }
            | PlanError::NoRedactKey { .. }
            | PlanError::RuleMatchesNothing { .. }
            | PlanError::Redact(_)
            | PlanError::ConstraintCycle { .. }
            | PlanError::Collision { .. } => PlanClass::Usage,
            PlanError::SourceProject { .. }
            | PlanError::EmulatorVariableSet { .. }
            | PlanError::EmulatorAddressIsGoogle { .. }
            | PlanError::RepeatedKind { .. }
            | PlanError::SameFile { .. }
            | PlanError::NotAPlan { .. }
            | PlanError::UnknownFormat { .. }
            | PlanError::ArchiveChanged { .. }
            | PlanError::HeadModified
            | PlanError::PlanModified { .. } => PlanClass::Refused,
        }
    }
}

/// One link of a circle of wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CycleLink {
    /// What has to stand before the next one of the circle.
    pub pair: KindRef,
    /// Whose word that is, such as `--depends-on Order=User`.
    pub word: String,
}

fn join_links(links: &[CycleLink]) -> String {
    let next = links.iter().cycle().skip(1);
    let texts: Vec<String> = links
        .iter()
        .zip(next)
        .map(|(link, next)| format!("{} before {} ({})", link.pair, next.pair, link.word))
        .collect();
    texts.join(", ")
}
