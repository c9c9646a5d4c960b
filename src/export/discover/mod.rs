//! The set: which exports lie in a listing, which of them are finished, and what is wrong with the
//! others.
//!
//! Knows names, lengths and the bytes of small metadata objects. Must not know where they come
//! from, nor any zip. A kind or a namespace is never taken from a path, always from metadata; only
//! of an unfinished export, which is never packed, the path may say what it would hold. Layouts:
//! `docs/formats.md`.

mod legacy;
mod lookup;
mod managed;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{EntryRole, ExportFormat, Kind, KindRef, Namespace, Selector, Timestamp};

/// Metadata objects larger than this many bytes are refused as damaged; real ones hold a few KiB.
pub const MAX_METADATA_BYTES: u64 = 64 << 20;

/// What is wrong with a namespace that Datastore does not allow.
pub fn invalid_namespace(namespace: &Namespace) -> String {
    format!(
        "{:?} is not a namespace: one has up to 100 of A-Z a-z 0-9 . _ -",
        namespace.as_str()
    )
}

/// An object of a listing: its name below the root of the listing, and its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Name with `/` between its segments.
    pub name: String,
    /// Length in bytes, as it is stored.
    pub len: u64,
    /// Whether it is stored otherwise than it was written, such as gzip-encoded: then its length
    /// says nothing.
    pub is_encoded: bool,
}

/// Whether a thing is not there (yet), or there and wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// No completion marker, or a listed object is missing.
    Incomplete,
    /// What is there is not what it must be.
    Damaged,
}

impl Severity {
    /// The class as events and JSON name it.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Incomplete => "incomplete",
            Severity::Damaged => "damaged",
        }
    }
}

/// One thing that is wrong with an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Incomplete or damaged.
    pub class: Severity,
    /// The object at fault, or the export's folder.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
    /// Whether time alone may mend it: what is missing may come, what is too short may still be
    /// growing.
    pub may_ripen: bool,
    /// Where a count of the metadata contradicts the data and nothing else does: what the user has
    /// to accept for the data to be packed.
    pub count_of: Option<Box<Selector>>,
}

impl Problem {
    /// A fault of something that is not there (yet).
    pub fn incomplete(object: &str, reason: impl Into<String>) -> Self {
        Problem {
            class: Severity::Incomplete,
            object: object.to_owned(),
            reason: reason.into(),
            may_ripen: true,
            count_of: None,
        }
    }

    /// A fault of a count in the metadata that contradicts the data.
    pub fn count(object: &str, group: &ExportPart, reason: impl Into<String>) -> Self {
        Problem {
            count_of: Some(Box::new(group.selector())),
            ..Problem::damaged(object, reason)
        }
    }

    /// A fault of something that is there and wrong.
    pub fn damaged(object: &str, reason: impl Into<String>) -> Self {
        Problem {
            class: Severity::Damaged,
            object: object.to_owned(),
            reason: reason.into(),
            may_ripen: false,
            count_of: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}

/// A part of an export with metadata of its own: one kind in one namespace, or everything that one
/// metadata object stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPart {
    /// The kind, unless the group holds all kinds.
    pub kind: Option<Kind>,
    /// The namespace, unless the metadata leaves it open.
    pub namespace: Option<Namespace>,
    /// Entities by the export's own metadata; legacy backups count none.
    pub entities: Option<u64>,
    /// Bytes by the export's own metadata, where they can be compared: of the files or, as the
    /// service counts, of the records in them.
    pub bytes: Option<u64>,
    /// The metadata object of the group.
    pub metadata: Option<String>,
    /// The objects that hold entities, by number.
    pub outputs: Vec<ListedObject>,
}

impl ExportPart {
    /// A group of which nothing is known but what it stands for.
    pub(crate) fn new(namespace: Option<Namespace>, kind: Option<Kind>) -> Self {
        ExportPart {
            kind,
            namespace,
            entities: None,
            bytes: None,
            metadata: None,
            outputs: Vec::new(),
        }
    }

    /// The pair, where the metadata names both halves.
    pub fn pair(&self) -> Option<KindRef> {
        Some(KindRef {
            namespace: self.namespace.clone()?,
            kind: self.kind.clone()?,
        })
    }

    /// Bytes of the output files.
    pub fn file_bytes(&self) -> u64 {
        self.outputs
            .iter()
            .fold(0, |sum, output| output.len.saturating_add(sum))
    }

    /// What chooses the group: its pair, or everything where the metadata leaves the pair open.
    pub fn selector(&self) -> Selector {
        self.pair()
            .map_or_else(Selector::everything, |pair| Selector::from(&pair))
    }

    /// Whether an entity of `pair` may stand in this group.
    pub fn admits(&self, pair: &KindRef) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == pair.kind)
            && self
                .namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == pair.namespace)
    }

    /// What the group is of, for people: `acme/User`, `kind User of any namespace`, `everything`.
    pub fn path(&self) -> String {
        match (&self.namespace, &self.kind) {
            (Some(namespace), Some(kind)) => KindRef {
                namespace: namespace.clone(),
                kind: kind.clone(),
            }
            .to_string(),
            (None, Some(kind)) => format!("kind {kind} of any namespace"),
            (Some(namespace), None) => format!("all kinds of {namespace}"),
            (None, None) => "all kinds of all namespaces".to_owned(),
        }
    }
}

/// One export (or legacy backup) as it lies in the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The folder it lies in, or for a legacy backup its completion marker; what errors name.
    pub title: String,
    /// How it was made.
    pub format: ExportFormat,
    /// Its start.
    pub started: Option<Timestamp>,
    /// Its end.
    pub finished: Option<Timestamp>,
    /// The completion marker, where there is one.
    pub mark: Option<ListedObject>,
    /// Lengths of the metadata objects of the groups, by name.
    pub metadata: BTreeMap<String, u64>,
    /// Its parts, ordered by namespace and kind.
    pub groups: Vec<ExportPart>,
    /// Objects that are stored under other names than the metadata give them, each with the name
    /// that the metadata give.
    pub listed_as: BTreeMap<String, String>,
    /// All that is wrong with it; none for an export that is whole, as far as metadata and names
    /// can tell.
    pub faults: Vec<Problem>,
}

impl Export {
    pub(crate) fn new(title: &str, format: ExportFormat) -> Self {
        Export {
            title: title.to_owned(),
            format,
            started: None,
            finished: None,
            mark: None,
            metadata: BTreeMap::new(),
            groups: Vec::new(),
            listed_as: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// The pairs that the metadata declares, or `None` where some group leaves kind or namespace
    /// open: only its data can tell then.
    pub fn declared_pairs(&self) -> Option<BTreeSet<KindRef>> {
        self.groups.iter().map(ExportPart::pair).collect()
    }

    /// When the export began, if that can be true: a plausible time, and not after the export's
    /// end. Only such times tell which of two is newer.
    pub fn plausible_start(&self) -> Option<Timestamp> {
        self.started.filter(|started| {
            started.is_plausible() && self.finished.is_none_or(|finished| finished >= *started)
        })
    }

    /// Drops the faults of counts that the user accepts. What a group of open kind or namespace
    /// holds is known, and judged, when its data are read.
    pub fn accept_counts(&mut self, accepted: &[Selector]) {
        if accepted.is_empty() {
            return;
        }
        let is_accepted = |group: &ExportPart| {
            group
                .pair()
                .is_none_or(|pair| accepted.iter().any(|selector| selector.matches(&pair)))
        };
        let of: BTreeSet<&str> = self
            .groups
            .iter()
            .filter(|group| is_accepted(group))
            .filter_map(|group| group.metadata.as_deref())
            .collect();
        self.faults
            .retain(|fault| fault.count_of.is_none() || !of.contains(fault.object.as_str()));
    }

    /// Whether nothing is missing. (It may still be damaged.)
    pub fn is_complete(&self) -> bool {
        self.faults
            .iter()
            .all(|fault| fault.class != Severity::Incomplete)
    }

    /// Every object of the export with its role and its group: each group's outputs by number and
    /// its metadata, the completion marker last.
    pub fn objects(&self) -> Vec<ExportObject<'_>> {
        let mut objects = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, group) in self.groups.iter().enumerate() {
            objects.extend(group.outputs.iter().map(|output| ExportObject {
                name: &output.name,
                len: output.len,
                role: EntryRole::Output,
                group: Some(index),
            }));
            let Some((name, len)) = group
                .metadata
                .as_ref()
                .and_then(|name| self.metadata.get_key_value(name))
            else {
                continue;
            };
            if seen.insert(name) {
                objects.push(ExportObject {
                    name,
                    len: *len,
                    role: EntryRole::KindMetadata,
                    group: Some(index),
                });
            }
        }
        objects.extend(self.mark.iter().map(|mark| ExportObject {
            name: &mark.name,
            len: mark.len,
            role: EntryRole::ExportMetadata,
            group: None,
        }));
        objects
    }

    /// Where the export stands among others: by the first namespace and kind that it declares, then
    /// by title.
    fn order(&self) -> (Option<&Namespace>, Option<&Kind>, &str) {
        let first = self.groups.first();
        (
            first.and_then(|group| group.namespace.as_ref()),
            first.and_then(|group| group.kind.as_ref()),
            &self.title,
        )
    }
}

/// One object of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportObject<'a> {
    /// Its name in the listing.
    pub name: &'a str,
    /// Its length in bytes.
    pub len: u64,
    /// What it is for.
    pub role: EntryRole,
    /// The index of its group; none for the completion marker.
    pub group: Option<usize>,
}

/// What a listing holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Discovery {
    /// Exports, finished or not, ordered by namespace, kind and folder.
    pub exports: Vec<Export>,
    /// Objects that belong to no export, such as notes or images.
    pub unrelated: Vec<String>,
}

/// The objects of a listing whose bytes [`discover`] wants to see.
pub fn metadata_objects(listing: &[ListedObject]) -> impl Iterator<Item = &ListedObject> {
    listing.iter().filter(|object| {
        object.len <= MAX_METADATA_BYTES
            && (managed::is_metadata(&object.name) || legacy::is_metadata(&object.name))
    })
}

/// Where [`discover`] finds the bytes of metadata objects.
pub trait MetadataSource {
    /// The bytes of an object, out of its encoding; `None` where they are not to be had.
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>>;
}

impl MetadataSource for BTreeMap<String, Vec<u8>> {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        BTreeMap::get(self, name).map(|bytes| Cow::Borrowed(bytes.as_slice()))
    }
}

/// Groups the objects of a listing into exports and says what is wrong with each.
///
/// `metadata` holds the bytes of the [`metadata_objects`]; of those that it wants to see, each is
/// requested when it is looked into.
pub fn discover(listing: &[ListedObject], metadata: &dyn MetadataSource) -> Discovery {
    let mut view = Listing::new(listing, metadata);
    let mut exports = managed::discover(&mut view);
    exports.extend(legacy::discover(&mut view));
    exports.extend(managed::unfinished(&mut view, &mut |folder| {
        Export::new(folder, ExportFormat::ManagedExport)
    }));
    for export in &mut exports {
        export
            .groups
            .sort_by(|a, b| (&a.namespace, &a.kind).cmp(&(&b.namespace, &b.kind)));
    }
    exports.sort_by(|a, b| a.order().cmp(&b.order()));
    let foreign = view
        .objects
        .keys()
        .filter(|name| !view.claimed.contains(*name))
        .map(|name| (*name).to_owned())
        .collect();
    Discovery {
        exports,
        unrelated: foreign,
    }
}

/// The listing while it is being divided: what each object weighs, and which ones some export has
/// claimed.
struct Listing<'a> {
    objects: BTreeMap<&'a str, &'a ListedObject>,
    metadata: &'a dyn MetadataSource,
    claimed: BTreeSet<&'a str>,
    /// What is called like metadata and is none: copies, and what a Mac leaves beside files. An
    /// export that names one may still claim it.
    set_aside: BTreeSet<&'a str>,
}

impl<'a> Listing<'a> {
    fn new(listing: &'a [ListedObject], metadata: &'a dyn MetadataSource) -> Self {
        let objects = listing
            .iter()
            .map(|object| (object.name.as_str(), object))
            .collect();
        let mut view = Listing {
            objects,
            metadata,
            claimed: BTreeSet::new(),
            set_aside: BTreeSet::new(),
        };
        let called_so = view
            .objects
            .keys()
            .copied()
            .filter(|name| managed::is_metadata(name) || legacy::is_metadata(name));
        let set_aside = called_so
            .filter(|name| view.is_apple_double(name) || view.is_copy(name))
            .collect();
        view.set_aside = set_aside;
        view
    }

    /// Whether an object is what macOS keeps beside a file where a file system cannot hold its
    /// attributes: `._NAME`, which is not metadata.
    fn is_apple_double(&self, name: &str) -> bool {
        base(name).starts_with("._")
            && !self
                .metadata
                .get(name)
                .is_some_and(|bytes| managed::is_sound(name, &bytes) || legacy::is_sound(&bytes))
    }

    /// Whether an object is by its name a copy of one beside it, and its bytes are the same.
    fn is_copy(&self, name: &str) -> bool {
        let original =
            lookup::original_of(base(name)).map(|original| below(folder(name), &original));
        original.is_some_and(|original| {
            self.metadata
                .get(name)
                .is_some_and(|bytes| self.metadata.get(&original) == Some(bytes))
        })
    }

    /// Claims an object for an export; `None` where it is not in the listing.
    fn claim(&mut self, name: &str) -> Option<ListedObject> {
        let (name, listed) = self.objects.get_key_value(name)?;
        self.claimed.insert(name);
        Some((*listed).clone())
    }

    /// Whether an export has the object already.
    fn is_claimed(&self, name: &str) -> bool {
        self.claimed.contains(name)
    }

    /// The bytes of a metadata object, or the fault that it cannot be read.
    fn bytes(&self, name: &str) -> Result<Cow<'a, [u8]>, Problem> {
        self.metadata.get(name).ok_or_else(|| {
            let len = self.objects.get(name).map_or(0, |listed| listed.len);
            Problem::damaged(
                name,
                format!("metadata have at most {MAX_METADATA_BYTES} bytes, these have {len}"),
            )
        })
    }

    /// Names that no export has claimed yet and that `wanted` accepts.
    fn unclaimed(&self, wanted: impl Fn(&str) -> bool) -> Vec<&'a str> {
        let is_free = |name: &&str| !self.claimed.contains(name) && !self.set_aside.contains(name);
        self.objects
            .keys()
            .copied()
            .filter(is_free)
            .filter(|name| wanted(name))
            .collect()
    }
}

/// The folder of a name: all before the last `/`, empty at the root.
fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The last segment of a name.
fn base(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, base)| base)
}

/// A name below a folder; the root is the empty folder.
fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// Whether a path of some metadata stays in its folder: relative, and no segment empty, `.` or
/// `..`.
fn stays_inside(path: &str) -> bool {
    !path
        .split('/')
        .any(|segment| matches!(segment, "" | "." | ".."))
}

/// The number of `output-N`.
fn output_number(base: &str) -> Option<u64> {
    let digits = base.strip_prefix("output-")?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
}

/// A title for a folder, also for the root of the listing.
fn title(folder: &str) -> &str {
    if folder.is_empty() { "." } else { folder }
}

#[cfg(test)]
mod tests;
