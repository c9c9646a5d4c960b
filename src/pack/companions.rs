//! Companions: objects that are packed beside the exports, such as the images that entities name.
//!
//! Lists them and says under which names they are packed. Knows nothing of exports.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::PackError;
use super::source::Source;
use crate::archive::zip::{ZipWriteError, check_name};
use crate::model::{COMPANIONS_FOLDER, EntryRole, Method, Timestamp};
use crate::store::{ObjectInfo, Store};

/// The companions of a set, as they were listed.
#[derive(Debug, Default)]
pub(super) struct Companions {
    /// In an order that the names give, not the command line.
    pub(super) folders: Vec<CompanionFolder>,
}

/// A store of companions and what it holds, by name.
#[derive(Debug)]
pub(super) struct CompanionFolder {
    pub(super) store: Arc<dyn Store>,
    objects: Vec<ObjectInfo>,
}

impl Companions {
    /// Lists stores, and refuses names that an archive cannot hold or that two stores share.
    pub(super) async fn list(stores: &[Arc<dyn Store>]) -> Result<Self, PackError> {
        let mut folders = Vec::new();
        for store in stores {
            let objects = store.list().await.map_err(PackError::source)?;
            folders.push(CompanionFolder {
                store: store.clone(),
                objects,
            });
        }
        folders.sort_by(|a, b| a.first_name().cmp(&b.first_name()));
        let companions = Companions { folders };
        companions.check_names()?;
        Ok(companions)
    }

    fn check_names(&self) -> Result<(), PackError> {
        let mut seen = BTreeSet::new();
        for object in self.objects() {
            let name = entry_name(object);
            check_name(&name).map_err(ZipWriteError::from)?;
            if !seen.insert(&object.name) {
                return Err(PackError::SameCompanion(object.name.clone()));
            }
        }
        Ok(())
    }

    /// All of them, in the order in which they are packed.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectInfo> {
        self.folders.iter().flat_map(|folder| &folder.objects)
    }

    /// How many they are.
    pub(super) fn count(&self) -> u64 {
        self.objects().count() as u64
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> u64 {
        self.objects()
            .fold(0, |sum, object| object.len.saturating_add(sum))
    }
}

impl CompanionFolder {
    fn first_name(&self) -> Option<&str> {
        self.objects.first().map(|object| object.name.as_str())
    }

    /// The objects as entries to be.
    pub(super) fn sources(&self, modified: Option<Timestamp>, method: Method) -> Vec<Source> {
        let source = |object: &ObjectInfo| {
            let (name, role) = (entry_name(object), EntryRole::Companion);
            Source::object(object.clone(), None, name, role, modified, method)
        };
        self.objects.iter().map(source).collect()
    }
}

/// The name under which a companion is packed.
pub(super) fn entry_name(object: &ObjectInfo) -> String {
    format!("{COMPANIONS_FOLDER}{}", object.name)
}
