//! The kinds that are backed up, and what the Datastore's own statistics count of them.

use async_trait::async_trait;

use super::error::BackupError;
use super::request::{KindSelection, is_data};
use crate::datastore::error::DatastoreError;
use crate::datastore::kinds::{KindReader, KindStatistics};
use crate::model::{Kind, KindRef, Namespace, Selector, UnmatchedSelector, nearest_name};
use crate::progress::{Event, Observer};

/// A Datastore that tells its kinds.
#[async_trait]
pub trait KindSource: Send + Sync {
    /// The namespaces that hold entities.
    ///
    /// # Errors
    /// [`DatastoreError`] after all retries.
    async fn namespaces(&self) -> Result<Vec<Namespace>, DatastoreError>;

    /// The kinds of a namespace.
    ///
    /// # Errors
    /// [`DatastoreError`] after all retries.
    async fn kinds(&self, namespace: &Namespace) -> Result<Vec<Kind>, DatastoreError>;

    /// What its statistics count of the kinds of a namespace; `is_only` where there is no other
    /// namespace. Empty where there are none.
    ///
    /// # Errors
    /// [`DatastoreError`] after all retries.
    async fn statistics(
        &self,
        namespace: &Namespace,
        is_only: bool,
    ) -> Result<Vec<KindStatistics>, DatastoreError>;
}

#[async_trait]
impl KindSource for KindReader {
    async fn namespaces(&self) -> Result<Vec<Namespace>, DatastoreError> {
        KindReader::namespaces(self).await
    }

    async fn kinds(&self, namespace: &Namespace) -> Result<Vec<Kind>, DatastoreError> {
        KindReader::kinds(self, namespace).await
    }

    async fn statistics(
        &self,
        namespace: &Namespace,
        is_only: bool,
    ) -> Result<Vec<KindStatistics>, DatastoreError> {
        let statistics = KindReader::statistics(self, namespace).await?;
        // A database without other namespaces counts all its kinds in one place.
        if statistics.is_empty() && is_only && namespace.is_default() {
            return self.total_statistics().await;
        }
        Ok(statistics)
    }
}

/// The kinds that are chosen, in order. `name` is that of the Datastore.
pub(super) async fn list_kinds(
    source: &dyn KindSource,
    selection: &KindSelection,
    name: &str,
    observer: &dyn Observer,
) -> Result<Vec<KindRef>, BackupError> {
    let mut listed = Vec::new();
    for namespace in chosen_namespaces(source, selection).await? {
        let kinds = source.kinds(&namespace).await?.into_iter();
        listed.extend(kinds.map(|kind| KindRef {
            namespace: namespace.clone(),
            kind,
        }));
    }
    listed.retain(is_data);
    if listed.is_empty() {
        return Err(BackupError::NoKinds(name.to_owned()));
    }
    warn_of_idle(&selection.exclude, &listed, observer);
    choose(listed, selection)
}

/// Warns of selectors that leave out nothing: they may be mistyped.
fn warn_of_idle(exclude: &[Selector], listed: &[KindRef], observer: &dyn Observer) {
    let is_idle = |one: &&Selector| !listed.iter().any(|pair| one.matches(pair));
    for idle in exclude.iter().filter(is_idle) {
        let unmatched = UnmatchedSelector::new(idle, listed.iter().cloned());
        observer.event(Event::Warning {
            warning: unmatched.warning("--exclude"),
        });
    }
}

/// The namespaces that are requested, or all of them.
pub(super) async fn chosen_namespaces(
    source: &dyn KindSource,
    selection: &KindSelection,
) -> Result<Vec<Namespace>, BackupError> {
    let there = source.namespaces().await?;
    if selection.namespaces.is_empty() {
        return Ok(there);
    }
    let missing = |asked: &&Namespace| !there.contains(asked);
    match selection.namespaces.iter().find(missing) {
        Some(missing) => Err(no_namespace(missing, &there)),
        None => Ok(selection.namespaces.clone()),
    }
}

/// The error of a namespace that is not there, with the one that was probably meant.
fn no_namespace(missing: &Namespace, there: &[Namespace]) -> BackupError {
    let names: Vec<String> = there.iter().map(Namespace::to_string).collect();
    let nearest = nearest_name(&missing.to_string(), names.iter().map(String::as_str));
    BackupError::NoNamespace {
        namespace: missing.clone(),
        nearest: nearest.map(Namespace::parse_display),
    }
}

fn choose(
    mut listed: Vec<KindRef>,
    selection: &KindSelection,
) -> Result<Vec<KindRef>, BackupError> {
    let mut only = selection.only.iter();
    if let Some(idle) = only.find(|one| !listed.iter().any(|pair| one.matches(pair))) {
        return Err(UnmatchedSelector::new(idle, listed).into());
    }
    listed.retain(|pair| selection.chooses(pair));
    listed.sort();
    listed.dedup();
    if listed.is_empty() {
        return Err(BackupError::NothingSelected);
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_namespace_gets_the_nearest_one() {
        let there = ["", "berlin", "lyon"].map(Namespace::new);
        for (typed, meant) in [
            ("berln", Some("berlin")),
            ("default", Some("")),
            ("tokyo", None),
        ] {
            let error = no_namespace(&Namespace::new(typed), &there);
            let BackupError::NoNamespace { nearest, .. } = error else {
                panic!("{error}");
            };
            assert_eq!(nearest, meant.map(Namespace::new), "{typed}");
        }
    }
}
