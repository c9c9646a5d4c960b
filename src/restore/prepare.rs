//! From an archive and the user's choices to a plan: the archive's digest and what its data say of
//! redaction rules are found once, the planner is asked once more only where rules match.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::rule_matches;
use crate::archive::catalog::{sidecar_digest, stored_digest};
use crate::archive::{Archive, ArchiveError, digest_of};
use crate::model::{KindInfo, KindRef, Manifest, Sha256};
use crate::plan::{
    ArchiveRef, Choices, Environment, Plan, PlanError, RuleMatch, Step, named_kinds, plan,
};
use crate::runtime::workers::Workers;
use crate::store::StoreError;
use crate::transform::redact::{RedactRule, RuleSet};

/// Why there is no plan for an archive.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
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
    let sha256 = if container.store().is_remote() {
        remote_digest(archive).await?
    } else {
        digest_of(container.store().as_ref(), container.object()).await?
    };
    Ok(archive_ref_of(archive, sha256))
}

/// The archive as plans pin it, where its digest is known.
pub fn archive_ref_of(archive: &Archive, sha256: Sha256) -> ArchiveRef {
    let container = archive.container();
    if container.store().is_remote() {
        return ArchiveRef {
            location: container.title().to_owned(),
            sha256,
            generation: Some(container.object().version.to_string()),
        };
    }
    let title = Path::new(container.title());
    let path = std::path::absolute(title).unwrap_or_else(|_| title.to_owned());
    ArchiveRef {
        location: path.display().to_string(),
        sha256,
        generation: None,
    }
}

/// The digest that the object or the sidecar names; else that of all bytes.
async fn remote_digest(archive: &Archive) -> Result<Sha256, StoreError> {
    let (store, object) = (archive.container().store(), archive.container().object());
    if let Some(sha256) = stored_digest(object) {
        return Ok(sha256);
    }
    match sidecar_digest(store.as_ref(), &object.name).await {
        Some(sha256) => Ok(sha256),
        None => digest_of(store.as_ref(), object).await,
    }
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
    match plan(archive.manifest(), archive_ref, &choices, environment) {
        Err(PlanError::RuleMatchesNothing { rule, .. }) => {
            let nearest = nearest_property(archive, &rule, &steps, workers).await?;
            Err(PlanError::RuleMatchesNothing { rule, nearest }.into())
        }
        planned => Ok(planned?),
    }
}

/// The property that a rule probably means which matches nothing, as the left side of a rule. The
/// kinds that the rule names are read once more.
async fn nearest_property(
    archive: &Arc<Archive>,
    rule: &str,
    steps: &[KindRef],
    workers: &Workers,
) -> Result<Option<String>, PrepareError> {
    let Ok(rule) = rule.parse::<RedactRule>() else {
        return Ok(None);
    };
    let siblings: Vec<RedactRule> = rule.for_siblings().into_iter().collect();
    let Ok(rules) = RuleSet::new(&siblings, named_kinds(archive.manifest())) else {
        return Ok(None);
    };
    let found = rule_matches::matches(archive, steps, &rules, workers).await?;
    let names = found.iter().flat_map(|found| &found.properties);
    Ok(rule.nearest(names.map(String::as_str)))
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
    let mut idle: Vec<&mut RuleMatch> = matches.iter_mut().filter(|found| is_idle(found)).collect();
    if idle.is_empty() {
        return Ok(matches);
    }
    let left_out = left_out_kinds(manifest, steps);
    let idle_rules: Vec<RedactRule> = idle.iter().map(|found| found.rule.clone()).collect();
    let idle_rules = resolve(&idle_rules)?;
    let elsewhere = rule_matches::matches(archive, &left_out, &idle_rules, workers).await?;
    for (found, elsewhere) in idle.iter_mut().zip(elsewhere) {
        found.left_out = elsewhere.properties;
    }
    Ok(matches)
}

/// Whether a rule matches nothing and should match something.
fn is_idle(found: &RuleMatch) -> bool {
    found.properties.is_empty() && !found.rule.is_optional()
}

/// The kinds that are not restored.
fn left_out_kinds(manifest: &Manifest, steps: &[KindRef]) -> Vec<KindRef> {
    let restored: HashSet<&KindRef> = steps.iter().collect();
    let kinds = manifest.kinds.iter().map(KindInfo::pair);
    kinds.filter(|pair| !restored.contains(pair)).collect()
}
