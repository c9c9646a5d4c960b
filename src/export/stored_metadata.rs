//! The metadata of a set, kept as it is stored and opened when it is requested: what nobody asks
//! for takes no more room than it has in its store.
//!
//! Knows names and encodings. What the metadata means is for `discover`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::export::discover::{Discovery, MAX_METADATA_BYTES, MetadataSource};
use crate::export::gzip;

/// Metadata that is kept, as much of it as may be in memory.
#[derive(Debug, Default)]
pub struct MetadataStore {
    stored: BTreeMap<String, StoredObject>,
    /// What does not fit, the largest first.
    left_out: BTreeSet<String>,
    /// How long what is opened may be.
    content_max_bytes: u64,
    /// What was requested and does not fit.
    lacking: Mutex<BTreeSet<String>>,
}

#[derive(Debug)]
struct StoredObject {
    bytes: Vec<u8>,
    encoding: Option<String>,
}

impl MetadataStore {
    /// Chooses among objects, by name and stored length, what will be kept: the smaller ones first,
    /// for those of real exports are small. Half of the memory is for what is kept, the other half
    /// for the one that is open.
    pub fn new<'a>(objects: impl IntoIterator<Item = (&'a str, u64)>, memory: u64) -> Self {
        let mut objects: Vec<(u64, &str)> =
            objects.into_iter().map(|(name, len)| (len, name)).collect();
        objects.sort_unstable();
        let mut room = memory / 2;
        let mut fits = |len: u64| room.checked_sub(len).map(|rest| room = rest).is_some();
        let left_out = objects
            .into_iter()
            .filter(|(len, _)| *len > MAX_METADATA_BYTES || !fits(*len))
            .map(|(_, name)| name.to_owned())
            .collect();
        MetadataStore {
            left_out,
            content_max_bytes: MAX_METADATA_BYTES.min(memory / 2),
            ..MetadataStore::default()
        }
    }

    /// Whether an object is to be kept.
    pub fn is_wanted(&self, name: &str) -> bool {
        !self.left_out.contains(name)
    }

    /// Keeps an object that is wanted.
    pub fn insert(&mut self, name: &str, bytes: Vec<u8>, encoding: Option<&str>) {
        self.stored.insert(
            name.to_owned(),
            StoredObject {
                bytes,
                encoding: encoding.map(str::to_owned),
            },
        );
    }

    /// Takes an object out, as it is stored.
    pub fn remove(&mut self, name: &str) -> Option<Vec<u8>> {
        self.stored.remove(name).map(|stored| stored.bytes)
    }

    /// An object that is at fault in a set only because it does not fit into memory.
    pub fn lacking<'a>(&self, discovery: &'a Discovery) -> Option<&'a str> {
        let lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut faults = discovery.exports.iter().flat_map(|export| &export.faults);
        faults
            .find(|fault| lacking.contains(&fault.object))
            .map(|fault| fault.object.as_str())
    }

    fn lacks(&self, name: &str) {
        self.lacking
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned());
    }
}

impl MetadataSource for MetadataStore {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let Some(StoredObject { bytes, encoding }) = self.stored.get(name) else {
            if self.left_out.contains(name) {
                self.lacks(name);
            }
            return None;
        };
        let content = gzip::content_of(bytes, encoding.as_deref(), self.content_max_bytes);
        if self.content_max_bytes < MAX_METADATA_BYTES
            && content.len() as u64 >= self.content_max_bytes
        {
            self.lacks(name);
        }
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::export::discover::{self, ListedObject, Severity};
    use crate::model::ExportFormat;

    /// A set of one export whose completion marker is all that there is.
    fn discovered(kept: &MetadataStore, mark: &str, len: u64, is_encoded: bool) -> Discovery {
        discover::discover(
            &[ListedObject {
                name: mark.to_owned(),
                len,
                is_encoded,
            }],
            kept,
        )
    }

    #[test]
    fn small_objects_are_kept_large_ones_skipped() {
        let mut kept = MetadataStore::new(
            [
                ("large", 60),
                ("a", 20),
                ("b", 20),
                ("too large", MAX_METADATA_BYTES + 1),
            ],
            100,
        );
        assert!(
            kept.is_wanted("a")
                && kept.is_wanted("b")
                && !kept.is_wanted("large")
                && !kept.is_wanted("too large")
        );
        kept.insert("a", vec![7; 20], None);
        assert_eq!(kept.get("a").as_deref(), Some(&[7; 20][..]));
        assert!(kept.get("large").is_none() && kept.get("unknown").is_none());
    }

    #[test]
    fn marker_left_out_is_lacking_not_damaged() {
        let mark = "x.overall_export_metadata";
        let kept = MetadataStore::new([(mark, 60)], 100);
        assert_eq!(
            kept.lacking(&discovered(&kept, mark, 60, false)),
            Some(mark)
        );
        // One that fits and is damaged is damaged.
        let mut kept = MetadataStore::new([(mark, 40)], 100);
        kept.insert(mark, vec![7; 40], None);
        let discovery = discovered(&kept, mark, 40, false);
        assert_eq!(kept.lacking(&discovery), None);
        assert!(discovery.exports.iter().any(|export| {
            export
                .faults
                .iter()
                .any(|fault| fault.class == Severity::Damaged)
        }));
    }

    #[test]
    fn unfinished_export_needs_no_large_metadata() {
        let name = "e/ns/kind/x.export_metadata";
        let kept = MetadataStore::new([(name, 60)], 100);
        let discovery = discovered(&kept, name, 60, false);
        assert_eq!(kept.lacking(&discovery), None);
        assert_eq!(
            discovery
                .exports
                .first()
                .map(|export| (export.format, export.is_complete())),
            Some((ExportFormat::ManagedExport, false))
        );
    }

    #[test]
    fn gzip_bomb_opens_only_on_demand() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 4 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        let (mark, len, memory) = ("x.overall_export_metadata", bomb.len() as u64, 1 << 20);
        let mut kept = MetadataStore::new([(mark, len), ("small", 10)], memory);
        kept.insert(mark, bomb, Some("gzip"));
        kept.insert("small", vec![1; 10], Some("gzip"));
        assert_eq!(
            kept.get("small").map(|content| content.len()),
            Some(10),
            "not gzip, whatever is said"
        );
        assert_eq!(
            kept.get(mark).map(|content| content.len() as u64),
            Some(memory / 2)
        );
        assert_eq!(
            kept.lacking(&discovered(&kept, mark, len, true)),
            Some(mark)
        );
    }
}
