//! From an archive and the user's choices to a plan: the archive's digest and what its data say of
//! redaction rules are found once, the planner is asked once more only where rules match.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::rule_matches;
use crate::archive::catalog::{sidecar_digest, stored_digest};
use crate::archive::{Archive, ArchiveError, digest_of};
use crate::model::{KindInfo, KindRef};
use crate::plan::{
    ArchiveRef, Choices, Environment, Plan, PlanError, RuleMatch, Step, named_kinds, plan,
};
use crate::runtime::workers::Workers;
use crate::store::StoreError;
use crate::transform::redact::{RedactRule, RuleSet};

/// Why there is no plan for an archive.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The archive cannot be read, or is damaged.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The choices do not fit the archive.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// The archive as plans pin it. In a bucket its object says its digest, or the sidecar does: all of
/// it is read only where neither can.
///
/// # Errors
/// When the archive cannot be read.
pub async fn archive_ref(archive: &Archive) -> Result<ArchiveRef, StoreError> {
    let container = archive.container();
    let (store, object) = (container.store(), container.object());
    let title = container.title();
    if !store.is_remote() {
        let path = std::path::absolute(title).unwrap_or_else(|_| Path::new(title).to_owned());
        return Ok(ArchiveRef {
            location: path.display().to_string(),
            sha256: digest_of(store.as_ref(), object).await?,
            generation: None,
        });
    }
    let named = match stored_digest(object) {
        Some(sha256) => Some(sha256),
        None => sidecar_digest(store.as_ref(), &object.name).await,
    };
    let sha256 = match named {
        Some(sha256) => sha256,
        None => digest_of(store.as_ref(), object).await?,
    };
    Ok(ArchiveRef {
        location: title.to_owned(),
        sha256,
        generation: Some(object.version.to_string()),
    })
}

/// Makes a plan. Where properties are redacted, the archive is read to see what each rule matches.
///
/// # Errors
/// [`PrepareError`].
pub async fn make_plan(
    archive: &Arc<Archive>,
    archive_ref: &ArchiveRef,
    choices: &Choices,
    environment: &Environment,
    workers: &Workers,
) -> Result<Plan, PrepareError> {
    // What is refused is refused before anything is read.
    let first = plan(archive.manifest(), archive_ref, choices, environment)?;
    if choices.redaction.rules.is_empty() {
        return Ok(first);
    }
    let steps: Vec<KindRef> = first.steps.iter().map(Step::pair).collect();
    drop(first);
    let mut choices = choices.clone();
    choices.redaction.matches =
        rule_matches(archive, &choices.redaction.rules, &steps, workers).await?;
    Ok(plan(
        archive.manifest(),
        archive_ref,
        &choices,
        environment,
    )?)
}

/// What each rule matches in the kinds of the steps; where that is nothing and should be something,
/// also in the kinds that are left out: a rule for what is left out this time is not misspelt.
async fn rule_matches(
    archive: &Arc<Archive>,
    rules: &[RedactRule],
    steps: &[KindRef],
    workers: &Workers,
) -> Result<Vec<RuleMatch>, PrepareError> {
    let manifest = archive.manifest();
    let resolve =
        |rules: &[RedactRule]| RuleSet::new(rules, named_kinds(manifest)).map_err(PlanError::from);
    let mut matches = rule_matches::matches(archive, steps, &resolve(rules)?, workers).await?;
    let is_idle = |found: &&mut RuleMatch| found.properties.is_empty() && !found.rule.is_optional();
    let mut idle: Vec<&mut RuleMatch> = matches.iter_mut().filter(is_idle).collect();
    if idle.is_empty() {
        return Ok(matches);
    }
    let restored: HashSet<&KindRef> = steps.iter().collect();
    let left_out: Vec<KindRef> = manifest
        .kinds
        .iter()
        .map(KindInfo::pair)
        .filter(|pair| !restored.contains(pair))
        .collect();
    let idle_rules: Vec<RedactRule> = idle.iter().map(|found| found.rule.clone()).collect();
    let elsewhere =
        rule_matches::matches(archive, &left_out, &resolve(&idle_rules)?, workers).await?;
    for (found, elsewhere) in idle.iter_mut().zip(elsewhere) {
        found.left_out = elsewhere.properties;
    }
    Ok(matches)
}
