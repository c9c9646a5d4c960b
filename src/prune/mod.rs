//! Old archives go, by a keep policy.
//!
//! Archives are told apart by the backup id in their manifests, never by file times. Only sealed
//! archives go, and only after those that stay have been verified. Everything else in the folder
//! is left alone.

mod error;
mod policy;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::civil::DateTime;

pub use error::PruneError;
pub use policy::{KeepPolicy, KeepReason, KeepRule};

use crate::archive::catalog::{self, ArchiveContents, CatalogEntry, Integrity, NameParts};
use crate::archive::digest_of;
use crate::encryption::Identities;
use crate::progress::{Event, Observer};
use crate::runtime::workers::Workers;
use crate::store::{ObjectInfo, Store, StoreError, open_object};
use crate::verify::{VerifyScope, verify};
use policy::time_of_id;

/// How many archives are verified at once.
const MAX_CONCURRENT_CHECKS: usize = 4;

/// How the sidecar of an archive ends. It goes last: alone it tells what an interrupted removal has
/// left.
const SIDECAR_SUFFIX: &str = ".sha256";

/// What stands beside an archive and goes with it, in this order.
const SIDECARS: [&str; 2] = [".minisig", SIDECAR_SUFFIX];

/// The label of archives that hold several namespaces.
const SEVERAL_NAMESPACES: &str = "all";

/// What becomes of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It stays, for these reasons.
    Keep(Vec<KeepReason>),
    /// It goes: no rule keeps it.
    Remove,
    /// The policy is not about it.
    Leave(LeaveReason),
}

/// Why the policy is not about a zip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveReason {
    /// It is not sealed.
    Unsealed(Integrity),
    /// Its backup id is no time.
    NoTime,
    /// It is an archive that cannot be read any more, and no rule would keep it.
    Damaged,
}

impl fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeaveReason::Unsealed(seal) => seal.fmt(f),
            LeaveReason::NoTime => f.pad("its backup id is not a time"),
            LeaveReason::Damaged => f.pad("damaged"),
        }
    }
}

/// A zip of the folder, and what becomes of it.
#[derive(Debug, Clone)]
pub struct PrunedArchive {
    /// The object.
    pub object: ObjectInfo,
    /// The backup id, as far as it is known.
    pub id: Option<String>,
    /// The project of the backup, as far as it is known.
    pub project: Option<String>,
    /// Its database, as far as it is known; empty for the default one.
    pub database: Option<String>,
    /// The namespace that it is of, as names of archives have it.
    pub label: Option<String>,
    /// What becomes of it.
    pub decision: Decision,
}

impl PrunedArchive {
    /// Whether it goes.
    pub fn goes(&self) -> bool {
        self.decision == Decision::Remove
    }

    fn stays(&self) -> bool {
        matches!(self.decision, Decision::Keep(_))
    }
}

/// What a policy makes of a folder. Nothing has been removed.
#[derive(Debug)]
pub struct PrunePlan {
    store: Arc<dyn Store>,
    /// Open encrypted archives.
    identities: Option<Identities>,
    /// The oldest first; what the policy is not about comes before.
    pub archives: Vec<PrunedArchive>,
    /// Names of archives that an interrupted removal has removed, and not what stood beside them.
    half_removed: Vec<String>,
}

/// A plan whose kept archives are good, so that the others may go.
#[derive(Debug)]
pub struct VerifiedPrunePlan(PrunePlan);

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneResult {
    /// Archives that were removed.
    pub removed: Vec<String>,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Archives that should go and are still there, with the reason.
    pub held: Vec<(String, String)>,
}

/// A zip as the policy sees it.
struct Candidate {
    object: ObjectInfo,
    holds: Option<ArchiveContents>,
    /// Its group, where the policy is about it.
    group: Option<Group>,
    /// Its place in time, or why it has none.
    time: Result<(DateTime, String), LeaveReason>,
}

/// Archives that the policy counts together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    /// The project; empty where the archive cannot be read.
    project: String,
    database: String,
    label: String,
}

impl PrunePlan {
    /// Decides what becomes of the archives in a folder. `namespace` narrows the plan to those of
    /// one namespace, as `--namespace` spells it. Encrypted archives that no identity opens are left
    /// alone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn new(
        store: &Arc<dyn Store>,
        policy: &KeepPolicy,
        namespace: Option<&str>,
        identities: Option<&Identities>,
    ) -> Result<Self, PruneError> {
        let listed = catalog::list(store, None, identities).await?;
        let mut candidates = Vec::with_capacity(listed.len());
        for one in listed {
            candidates.push(Candidate::new(store.as_ref(), one).await?);
        }
        let is_wanted = |candidate: &Candidate| {
            let label = candidate.group.as_ref().map(|group| group.label.as_str());
            namespace.is_none_or(|namespace| label == Some(catalog::name_of(namespace)))
        };
        candidates.retain(is_wanted);
        group_damaged(&mut candidates);
        let archives = decide(candidates, policy);
        Ok(PrunePlan {
            half_removed: find_half_removed(store.as_ref(), &archives).await?,
            store: store.clone(),
            identities: identities.cloned(),
            archives,
        })
    }

    /// Forgets the archives of other databases, so that they are left alone. The default database
    /// has no name.
    pub fn retain_database(&mut self, project: &str, database: &str) {
        let is_one =
            |found: &Option<String>, wanted| found.as_deref().is_none_or(|found| found == wanted);
        self.archives.retain(|archive| {
            is_one(&archive.project, project) && is_one(&archive.database, database)
        });
    }

    /// How many archives go.
    pub fn removals(&self) -> usize {
        self.archives
            .iter()
            .filter(|archive| archive.goes())
            .count()
    }

    /// How many bytes they have.
    pub fn removed_bytes(&self) -> u64 {
        let removals = self.archives.iter().filter(|archive| archive.goes());
        removals.map(|archive| archive.object.len).sum()
    }

    /// Verifies the archives that stay, by structure and manifest. Where none goes, none is read.
    ///
    /// # Errors
    /// [`PruneError::Damaged`] with all that is wrong; nothing may be removed then.
    pub async fn verify_kept(
        self,
        workers: &Workers,
        observer: &dyn Observer,
    ) -> Result<VerifiedPrunePlan, PruneError> {
        if self.removals() > 0 {
            let kept = self.archives.iter().filter(|archive| archive.stays());
            let checks = kept.map(|archive| self.problems(archive, workers, observer));
            let problems: Vec<Vec<String>> = stream::iter(checks)
                .buffered(MAX_CONCURRENT_CHECKS)
                .try_collect()
                .await?;
            let problems = problems.concat();
            if !problems.is_empty() {
                return Err(PruneError::Damaged(problems));
            }
        }
        Ok(VerifiedPrunePlan(self))
    }

    async fn problems(
        &self,
        archive: &PrunedArchive,
        workers: &Workers,
        observer: &dyn Observer,
    ) -> Result<Vec<String>, PruneError> {
        let title = self.store.display_name(&archive.object.name);
        let (store, object) = (self.store.clone(), archive.object.clone());
        let (store, object) = open_object(store, object, self.identities.as_ref()).await?;
        let report = verify(store, object, title, VerifyScope::Quick, workers, observer).await?;
        Ok(report.problems)
    }
}

impl VerifiedPrunePlan {
    /// Removes what goes, the oldest first: each archive, then its sidecars. What a retention
    /// policy or a hold keeps is reported and left, and so is what somebody has replaced.
    ///
    /// # Errors
    /// At the first archive that the store refuses to remove for another reason.
    pub async fn remove(self, observer: &dyn Observer) -> Result<PruneResult, PruneError> {
        let PrunePlan {
            store,
            archives,
            half_removed,
            ..
        } = self.0;
        let mut result = PruneResult::default();
        for PrunedArchive { object, .. } in archives.into_iter().filter(PrunedArchive::goes) {
            match remove_archive(store.as_ref(), &object).await {
                Ok(()) => {
                    result.removed_bytes += object.len;
                    result.removed.push(object.name);
                }
                Err(error @ (StoreError::Held { .. } | StoreError::Changed { .. })) => {
                    let warning = error.to_string();
                    observer.event(Event::Warning {
                        warning: warning.clone(),
                    });
                    result.held.push((object.name, warning));
                }
                Err(error) => return Err(error.into()),
            }
        }
        for archive in half_removed {
            remove_sidecars(store.as_ref(), &archive).await?;
        }
        Ok(result)
    }
}

/// Removes an archive, then what stands beside it. Where it is gone already, only the latter.
async fn remove_archive(store: &dyn Store, archive: &ObjectInfo) -> Result<(), StoreError> {
    if_there(store.delete_unchanged(archive).await)?;
    remove_sidecars(store, &archive.name).await
}

/// Removes what stands beside an archive.
async fn remove_sidecars(store: &dyn Store, archive: &str) -> Result<(), StoreError> {
    let names = SIDECARS.map(|suffix| format!("{archive}{suffix}"));
    for sidecar in store.stat_all(&names).await?.iter().flatten() {
        if_there(store.delete_unchanged(sidecar).await)?;
    }
    Ok(())
}

/// The archives of which an interrupted removal has left a sidecar: with a name of kindpack's own
/// choosing, and older than one that stays. A sidecar comes after its archive, so nobody is making
/// one of them just now.
async fn find_half_removed(
    store: &dyn Store,
    archives: &[PrunedArchive],
) -> Result<Vec<String>, StoreError> {
    let listed = store.list_folder().await?;
    let mut found = Vec::new();
    for sidecar in &listed {
        let Some(archive) = sidecar.name.strip_suffix(SIDECAR_SUFFIX) else {
            continue;
        };
        let is_there = listed.iter().any(|object| object.name == archive);
        if !is_there
            && is_outdated(archive, archives)
            && catalog::read_sidecar(store, archive, sidecar)
                .await?
                .is_some()
        {
            found.push(archive.to_owned());
        }
    }
    Ok(found)
}

/// Whether a name is that of an archive which is older than one of its label that stays.
fn is_outdated(name: &str, archives: &[PrunedArchive]) -> bool {
    let Some(named) = NameParts::read(name) else {
        return false;
    };
    let is_newer = |one: &PrunedArchive| {
        let is_same = one.label.as_deref() == Some(named.namespace);
        is_same && one.stays() && one.id.as_deref().is_some_and(|id| id > named.id)
    };
    archives.iter().any(is_newer)
}

/// What is gone already needs no removal.
fn if_there(removed: Result<(), StoreError>) -> Result<(), StoreError> {
    match removed {
        Err(StoreError::NotFound { .. }) => Ok(()),
        removed => removed,
    }
}

impl Candidate {
    async fn new(store: &dyn Store, listed: CatalogEntry) -> Result<Self, PruneError> {
        let CatalogEntry {
            object,
            seal,
            holds,
        } = listed;
        let named = NameParts::read(&object.name);
        let id = match (&holds, &named) {
            (Some(holds), _) => Some(holds.id.clone()),
            (None, _) if seal == Integrity::Encrypted => None,
            // The policy looks whether it should keep an archive that cannot be read any more.
            (None, Some(named)) if is_damaged(store, &object).await? => Some(named.id.to_owned()),
            (None, _) => None,
        };
        let group = Group::of(named.as_ref(), holds.as_ref());
        let unsealed = LeaveReason::Unsealed(seal);
        let time = match id {
            Some(id) if seal == Integrity::Complete || holds.is_none() => time_of_id(&id)
                .map(|time| (time, id))
                .ok_or(LeaveReason::NoTime),
            _ => Err(unsealed),
        };
        Ok(Candidate {
            object,
            holds,
            group,
            time,
        })
    }
}

impl Group {
    /// The group of an archive: its name says its namespace, or else what it holds.
    fn of(named: Option<&NameParts<'_>>, holds: Option<&ArchiveContents>) -> Option<Self> {
        let held = || match holds?.namespaces.as_slice() {
            [one] if one.is_default() => Some(catalog::name_of("(default)")),
            [one] => Some(one.as_str()),
            _ => Some(SEVERAL_NAMESPACES),
        };
        let label = named.map(|named| named.namespace).or_else(held)?;
        Some(Group {
            project: holds.map_or_else(String::new, |holds| holds.project.clone()),
            database: holds.map_or_else(String::new, |holds| holds.database.clone()),
            label: label.to_owned(),
        })
    }
}

/// Whether a zip that cannot be read as an archive was one: its sidecar, or what a bucket says of
/// it, has the digest of other bytes.
async fn is_damaged(store: &dyn Store, object: &ObjectInfo) -> Result<bool, StoreError> {
    if catalog::stored_digest(object).is_some() {
        return Ok(true);
    }
    match catalog::sidecar_digest(store, &object.name).await {
        Some(sha256) => Ok(digest_of(store, object).await? != sha256),
        None => Ok(false),
    }
}

/// Puts archives that cannot be read, and so name no project, among those of the same label.
fn group_damaged(candidates: &mut [Candidate]) {
    let readable = candidates.iter().filter(|one| one.holds.is_some());
    let groups: BTreeMap<String, Group> = readable
        .filter_map(|one| one.group.clone())
        .map(|group| (group.label.clone(), group))
        .collect();
    let damaged = candidates.iter_mut().filter(|one| one.holds.is_none());
    for group in damaged.filter_map(|one| one.group.as_mut()) {
        if let Some(readable) = groups.get(&group.label) {
            *group = readable.clone();
        }
    }
}

/// Applies the policy to each group.
fn decide(candidates: Vec<Candidate>, policy: &KeepPolicy) -> Vec<PrunedArchive> {
    let reasons = keep_reasons(&candidates, policy);
    let mut archives: Vec<(Option<DateTime>, PrunedArchive)> = candidates
        .into_iter()
        .zip(reasons)
        .map(|(candidate, reasons)| decided(candidate, reasons))
        .collect();
    archives.sort_by(|a, b| (&a.0, &a.1.object.name).cmp(&(&b.0, &b.1.object.name)));
    archives.into_iter().map(|(_, archive)| archive).collect()
}

/// Why each candidate is kept, in their order.
fn keep_reasons(candidates: &[Candidate], policy: &KeepPolicy) -> Vec<Vec<KeepReason>> {
    let mut groups: BTreeMap<&Group, Vec<(DateTime, bool, &str, usize)>> = BTreeMap::new();
    for (number, candidate) in candidates.iter().enumerate() {
        if let (Some(group), Ok((time, _))) = (&candidate.group, &candidate.time) {
            let name = candidate.object.name.as_str();
            // Of two copies that stays which commands find as the newest archive of the folder.
            let is_found_by_folder = NameParts::read(name).is_some();
            let member = (*time, is_found_by_folder, name, number);
            groups.entry(group).or_default().push(member);
        }
    }
    let mut all = vec![Vec::new(); candidates.len()];
    for mut members in groups.into_values() {
        members.sort_by(|a, b| b.cmp(a));
        let times: Vec<DateTime> = members.iter().map(|(time, ..)| *time).collect();
        for ((.., number), reasons) in members.into_iter().zip(policy.reasons(&times)) {
            if let Some(place) = all.get_mut(number) {
                *place = reasons;
            }
        }
    }
    all
}

/// The candidate with its decision, and its time to sort by.
fn decided(candidate: Candidate, reasons: Vec<KeepReason>) -> (Option<DateTime>, PrunedArchive) {
    let Candidate {
        object,
        holds,
        group,
        time,
    } = candidate;
    let (decision, time) = match time {
        Err(reason) => (Decision::Leave(reason), None),
        Ok(time) if !reasons.is_empty() => (Decision::Keep(reasons), Some(time)),
        Ok(time) if holds.is_none() => (Decision::Leave(LeaveReason::Damaged), Some(time)),
        Ok(time) => (Decision::Remove, Some(time)),
    };
    let (time, id) = time.unzip();
    let archive = PrunedArchive {
        object,
        id: id.or_else(|| holds.as_ref().map(|holds| holds.id.clone())),
        database: holds.as_ref().map(|holds| holds.database.clone()),
        project: holds.map(|holds| holds.project),
        label: group.map(|group| group.label),
        decision,
    };
    (time, archive)
}
