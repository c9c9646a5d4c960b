//! The metadata of exports: protobuf `Backup`, the overall export metadata, and the records of a
//! legacy backup (docs/formats.md, sections 4 and 7).
//!
//! The reader is our own rather than a derived one: a fault in metadata is named with its byte and
//! field, which `prost` does not keep.
//!
//! Knows what these say. Must not know where the objects lie that they name, nor whether those are
//! there.

use super::log::{LogError, LogWriter, read_all};
use crate::entity::wire::{Field, Fields, WireError, put_bytes, put_int, put_message, put_uint};
use crate::entity::{Entity, Id, PathElement, Property, ProtoError, Value};
use crate::model::{Namespace, Timestamp};

/// The version of the overall export metadata, as it stands in its first record.
const OVERALL_VERSION: &str = "3";
/// The version of a legacy backup's metadata.
const LEGACY_VERSION: &str = "1";
/// What the service writes for a kind where an export holds all kinds. (The emulators write
/// nothing.) No kind can have that name.
const ALL_KINDS_NAME: &str = "__all__";
const LEGACY_BACKUP_KIND: &str = "_AE_Backup_Information";
const LEGACY_FILES_KIND: &str = "_AE_Backup_Information_Kind_Files";

/// Metadata that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum MetadataError {
    /// The framing of a metadata log is damaged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The bytes are not the protobuf message that belongs there.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A record of a legacy backup's metadata is not an entity.
    #[error("record {record}: {source}")]
    Entity {
        /// The record's number in the log, from 0.
        record: usize,
        /// What is wrong with it.
        source: ProtoError,
    },
    /// A version that was not known when this was written.
    #[error("expected version {expected}, found {found:?}")]
    UnknownVersion {
        /// The version that is known.
        expected: &'static str,
        /// The version that stands there, cut short.
        found: String,
    },
    /// Too many records, or too few.
    #[error("expected {expected} records, found {found}")]
    RecordCount {
        /// How many there must be.
        expected: &'static str,
        /// How many there are.
        found: usize,
    },
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// A count or size below zero.
    #[error("{field} is negative: {found}")]
    Negative {
        /// The field's name.
        field: &'static str,
        /// The number.
        found: i64,
    },
    /// A choice that does not exist.
    #[error("{field}: expected {expected}, found {found}")]
    UnknownChoice {
        /// The field's name.
        field: &'static str,
        /// The choices that exist.
        expected: &'static str,
        /// The number of the choice.
        found: u64,
    },
    /// A time outside the years 1 to 9999.
    #[error("{field}: {found} microseconds are not a time of the years 1 to 9999")]
    BadTime {
        /// The field's name.
        field: &'static str,
        /// The number.
        found: i64,
    },
    /// An entity of another kind than belongs there, or without a key.
    #[error("record {record}: expected an entity of kind {expected}, found {found:?}")]
    OtherEntity {
        /// The record's number in the log, from 0.
        record: usize,
        /// The kind that belongs there.
        expected: &'static str,
        /// The kind that stands there; empty for an entity without a key.
        found: String,
    },
    /// A property of another type than belongs there.
    #[error("record {record}: property {property} is not {expected}")]
    OtherValue {
        /// The record's number in the log, from 0.
        record: usize,
        /// The property's name.
        property: &'static str,
        /// The type that belongs there.
        expected: &'static str,
    },
}

/// A kind and the objects that hold its entities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindFiles {
    /// The kind; empty for an export of all kinds, also where the service names it `__all__`.
    pub kind: String,
    /// Names relative to the metadata's own folder, or absolute `/gs/BUCKET/OBJECT` in a legacy
    /// backup.
    pub files: Vec<String>,
}

/// `*.export_metadata`, and a legacy backup's `*.KIND.backup_info`: a bare protobuf `Backup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportMetadata {
    /// The backup's name; in managed exports that of its folder.
    pub name: String,
    /// When the export began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// Its kinds. Their schemas are skipped.
    pub kinds: Vec<KindFiles>,
}

impl ExportMetadata {
    /// Reads the object's bytes. Unknown fields and schemas are skipped.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let mut info = None;
        let mut kinds = Vec::new();
        for field in Fields::new(bytes) {
            let field = field?;
            match field.number {
                1 => info = Some(field.bytes()?),
                2 => kinds.push(read_kind_files(field.bytes()?)?),
                _ => {}
            }
        }
        let mut metadata = ExportMetadata {
            name: String::new(),
            started: None,
            finished: None,
            kinds,
        };
        for field in info.ok_or(MetadataError::Missing {
            field: "backup_info",
        })? {
            let field = field?;
            match field.number {
                1 => metadata.name = field.text()?.to_owned(),
                2 => metadata.started = Some(time_of("start_timestamp", field.signed()?)?),
                3 => metadata.finished = Some(time_of("end_timestamp", field.signed()?)?),
                _ => {}
            }
        }
        Ok(metadata)
    }

    /// The object's bytes, as the emulator writes them.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_message(&mut out, 1, |out| {
            put_bytes(out, 1, self.name.as_bytes());
            for (field, time) in [(2, self.started), (3, self.finished)] {
                if let Some(time) = time {
                    put_int(out, field, time.micros());
                }
            }
        });
        for kind in &self.kinds {
            put_message(&mut out, 2, |out| {
                put_bytes(out, 1, kind.kind.as_bytes());
                kind.files
                    .iter()
                    .for_each(|file| put_bytes(out, 2, file.as_bytes()));
            });
        }
        out
    }
}

fn read_kind_files(fields: Fields<'_>) -> Result<KindFiles, MetadataError> {
    let (mut kind, mut files) = (None, Vec::new());
    for field in fields {
        let field = field?;
        match field.number {
            1 => {
                kind = Some(field.text()?)
                    .map(|kind| if kind == ALL_KINDS_NAME { "" } else { kind })
                    .map(str::to_owned)
            }
            2 => files.push(field.text()?.to_owned()),
            _ => {}
        }
    }
    Ok(KindFiles {
        kind: kind.ok_or(MetadataError::Missing {
            field: "kind_info.kind",
        })?,
        files,
    })
}

fn time_of(field: &'static str, micros: i64) -> Result<Timestamp, MetadataError> {
    Timestamp::from_micros(micros).ok_or(MetadataError::BadTime {
        field,
        found: micros,
    })
}

/// Which namespaces a part of an export covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceSpec {
    /// All of them.
    All,
    /// One, the default one included.
    One(Namespace),
}

/// One part of an export: what it covers and where its metadata lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPointer {
    /// The kind; none for all kinds.
    pub kind: Option<String>,
    /// The namespaces.
    pub namespace: NamespaceSpec,
    /// The part's `*.export_metadata`, relative to the overall metadata's folder.
    pub metadata_file: String,
    /// Entities in the part.
    pub entities: u64,
    /// Bytes of the part: the emulators count its files, the service counts the records in them.
    pub bytes: u64,
}

/// `*.overall_export_metadata`: a log of a version and one protobuf message. It is written last, so
/// it is the export's completion marker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OverallMetadata {
    /// The parts. An export that found no entity has none.
    pub pointers: Vec<PartPointer>,
}

impl OverallMetadata {
    /// Reads the object's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let records = read_all(bytes)?;
        check_version(records.first(), OVERALL_VERSION)?;
        let [_, message] = records.as_slice() else {
            return Err(MetadataError::RecordCount {
                expected: "2",
                found: records.len(),
            });
        };
        let mut pointers = Vec::new();
        for field in Fields::new(message) {
            let field = field?;
            if field.number == 1 {
                pointers.push(read_pointer(field.bytes()?)?);
            }
        }
        Ok(OverallMetadata { pointers })
    }

    /// The object's bytes, as the emulator writes them.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::new();
        for pointer in &self.pointers {
            put_message(&mut message, 1, |out| put_pointer(pointer, out));
        }
        let mut out = Vec::new();
        let mut log = LogWriter::default();
        log.record(OVERALL_VERSION.as_bytes(), &mut out);
        log.record(&message, &mut out);
        log.finish(&mut out);
        out
    }
}

fn check_version(record: Option<&Vec<u8>>, expected: &'static str) -> Result<(), MetadataError> {
    match record {
        None => Err(MetadataError::RecordCount {
            expected: "2 or more",
            found: 0,
        }),
        Some(version) if version == expected.as_bytes() => Ok(()),
        Some(version) => {
            let found = String::from_utf8_lossy(version.get(..20).unwrap_or(version)).into_owned();
            Err(MetadataError::UnknownVersion { expected, found })
        }
    }
}

fn read_pointer(fields: Fields<'_>) -> Result<PartPointer, MetadataError> {
    let (mut spec, mut metadata_file, mut entities, mut bytes) = (None, None, 0, 0);
    for field in fields {
        let field = field?;
        match field.number {
            1 => spec = Some(read_entity_set(field.bytes()?)?),
            2 => metadata_file = Some(field.text()?.to_owned()),
            3 => entities = count_of("num_entities", &field)?,
            4 => bytes = count_of("num_bytes", &field)?,
            _ => {}
        }
    }
    let (kind, namespace) = spec.ok_or(MetadataError::Missing {
        field: "entity_set_spec",
    })?;
    let metadata_file = metadata_file.ok_or(MetadataError::Missing {
        field: "export_metadata_file",
    })?;
    Ok(PartPointer {
        kind,
        namespace,
        metadata_file,
        entities,
        bytes,
    })
}

fn count_of(name: &'static str, field: &Field<'_>) -> Result<u64, MetadataError> {
    let found = field.signed()?;
    u64::try_from(found).map_err(|_| MetadataError::Negative { field: name, found })
}

const ONE_KIND: u64 = 1;
const ALL_KINDS: u64 = 2;
const DEFAULT_NAMESPACE: u64 = 1;
const ONE_NAMESPACE: u64 = 2;
const ALL_NAMESPACES: u64 = 3;

fn read_entity_set(fields: Fields<'_>) -> Result<(Option<String>, NamespaceSpec), MetadataError> {
    let (mut kind_type, mut kind, mut namespace_type, mut namespace) = (None, None, None, None);
    for field in fields {
        let field = field?;
        match field.number {
            1 => kind_type = Some(field.varint()?),
            2 => kind = Some(field.text()?.to_owned()),
            3 => namespace_type = Some(field.varint()?),
            4 => namespace = Some(field.text()?.to_owned()),
            _ => {}
        }
    }
    let kind_type = kind_type.ok_or(MetadataError::Missing { field: "kind_type" })?;
    let kind = kind_spec(kind_type, kind)?;
    let namespace_type = namespace_type.ok_or(MetadataError::Missing {
        field: "namespace_type",
    })?;
    Ok((kind, namespace_spec(namespace_type, namespace)?))
}

/// The one kind; none for all kinds.
fn kind_spec(kind_type: u64, kind: Option<String>) -> Result<Option<String>, MetadataError> {
    match kind_type {
        ONE_KIND if kind.as_deref() == Some(ALL_KINDS_NAME) => Ok(None),
        ONE_KIND => kind
            .filter(|kind| !kind.is_empty())
            .ok_or(MetadataError::Missing { field: "kind" })
            .map(Some),
        ALL_KINDS => Ok(None),
        found => Err(MetadataError::UnknownChoice {
            field: "kind_type",
            expected: "1 or 2",
            found,
        }),
    }
}

fn namespace_spec(
    namespace_type: u64,
    namespace: Option<String>,
) -> Result<NamespaceSpec, MetadataError> {
    match namespace_type {
        DEFAULT_NAMESPACE => Ok(NamespaceSpec::One(Namespace::default())),
        ONE_NAMESPACE => namespace
            .ok_or(MetadataError::Missing { field: "namespace" })
            .map(|namespace| NamespaceSpec::One(Namespace::new(namespace))),
        ALL_NAMESPACES => Ok(NamespaceSpec::All),
        found => Err(MetadataError::UnknownChoice {
            field: "namespace_type",
            expected: "1, 2 or 3",
            found,
        }),
    }
}

fn put_pointer(pointer: &PartPointer, out: &mut Vec<u8>) {
    let (namespace_type, namespace) = match &pointer.namespace {
        NamespaceSpec::All => (ALL_NAMESPACES, ""),
        NamespaceSpec::One(namespace) if namespace.is_default() => (DEFAULT_NAMESPACE, ""),
        NamespaceSpec::One(namespace) => (ONE_NAMESPACE, namespace.as_str()),
    };
    put_message(out, 1, |out| {
        put_uint(
            out,
            1,
            if pointer.kind.is_some() {
                ONE_KIND
            } else {
                ALL_KINDS
            },
        );
        put_bytes(
            out,
            2,
            pointer.kind.as_deref().unwrap_or_default().as_bytes(),
        );
        put_uint(out, 3, namespace_type);
        put_bytes(out, 4, namespace.as_bytes());
    });
    put_bytes(out, 2, pointer.metadata_file.as_bytes());
    put_uint(out, 3, pointer.entities);
    put_uint(out, 4, pointer.bytes);
}

/// `<KEY>.backup_info` of the Datastore Admin: a log of a version and entities that tell of the
/// backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyBackup {
    /// The project that was backed up, without a prefix such as `s~`.
    pub project: String,
    /// The backup's name.
    pub name: String,
    /// Where this metadata lies, `/gs/BUCKET/OBJECT`.
    pub handle: Option<String>,
    /// When the backup began.
    pub started: Option<Timestamp>,
    /// When it was complete; none if it was not.
    pub finished: Option<Timestamp>,
    /// The namespaces; none for all.
    pub namespaces: Option<Vec<Namespace>>,
    /// The kinds with their objects by shard number; at the end, without objects, kinds that the
    /// backup names but has no list for.
    pub kinds: Vec<KindFiles>,
}

impl LegacyBackup {
    /// Reads the object's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let records = read_all(bytes)?;
        check_version(records.first(), LEGACY_VERSION)?;
        let mut entities = records.iter().enumerate().skip(1);
        let (record, bytes) = entities.next().ok_or(MetadataError::RecordCount {
            expected: "2 or more",
            found: records.len(),
        })?;
        let info = LegacyEntity::parse(record, bytes, LEGACY_BACKUP_KIND)?;
        let mut backup = Self::from_info(&info)?;
        for (record, bytes) in entities {
            let list = LegacyEntity::parse(record, bytes, LEGACY_FILES_KIND)?;
            backup.kinds.push(list.kind_files()?);
        }
        backup.add_missing_kinds(info.texts("kinds")?);
        Ok(backup)
    }

    /// What the first entity says, without any kinds.
    fn from_info(info: &LegacyEntity<'_>) -> Result<Self, MetadataError> {
        let first = |name| info.texts(name).map(|texts| texts.into_iter().next());
        let name = first("name")?.ok_or(MetadataError::Missing { field: "name" })?;
        let handle = first("gs_handle")?;
        let started = info.time("start_time")?;
        let finished = info.time("complete_time")?;
        let namespaces = info.texts("namespaces")?;
        let namespaces: Vec<_> = namespaces.into_iter().map(Namespace::new).collect();
        Ok(LegacyBackup {
            project: info.project.to_owned(),
            name,
            handle,
            started,
            finished,
            namespaces: (!namespaces.is_empty()).then_some(namespaces),
            kinds: Vec::new(),
        })
    }

    fn add_missing_kinds(&mut self, kinds: Vec<String>) {
        for kind in kinds {
            if self.kinds.iter().all(|known| known.kind != kind) {
                let files = Vec::new();
                self.kinds.push(KindFiles { kind, files });
            }
        }
    }
}

/// One entity of a legacy backup's metadata.
struct LegacyEntity<'a> {
    record: usize,
    project: &'a str,
    /// The end of its key.
    last: PathElement<'a>,
    properties: Vec<Property<'a>>,
}

impl<'a> LegacyEntity<'a> {
    fn parse(
        record: usize,
        bytes: &'a [u8],
        expected: &'static str,
    ) -> Result<Self, MetadataError> {
        let Entity { key, properties } =
            Entity::parse(bytes).map_err(|source| MetadataError::Entity { record, source })?;
        let key = key.filter(|key| !key.app.is_empty());
        match key.and_then(|mut key| Some((key.project(), key.path.pop()?))) {
            Some((project, last)) if last.kind == expected => Ok(LegacyEntity {
                record,
                project,
                last,
                properties,
            }),
            other => Err(MetadataError::OtherEntity {
                record,
                expected,
                found: other.map_or("", |(_, last)| last.kind).to_owned(),
            }),
        }
    }

    /// The kind that the entity is named after, and its objects by shard number; those without a
    /// number come last.
    fn kind_files(&self) -> Result<KindFiles, MetadataError> {
        let mut files = self.texts("files")?;
        files.sort_by_cached_key(|file| {
            let number = shard_number(file);
            (number.is_none(), number, file.clone())
        });
        match self.last.id {
            Id::Name(kind) => Ok(KindFiles {
                kind: kind.to_owned(),
                files,
            }),
            _ => Err(MetadataError::Missing {
                field: "a key name",
            }),
        }
    }

    /// The values of one property; null is no value.
    fn values(&self, name: &'static str) -> impl Iterator<Item = &Property<'a>> {
        self.properties
            .iter()
            .filter(move |property| property.name == name && property.value != Value::Null)
    }

    fn texts(&self, name: &'static str) -> Result<Vec<String>, MetadataError> {
        let text = |property: &Property<'a>| match &property.value {
            Value::Bytes(bytes) => {
                String::from_utf8(bytes.to_vec()).map_err(|_| self.other(name, "UTF-8 text"))
            }
            _ => Err(self.other(name, "text")),
        };
        self.values(name).map(text).collect()
    }

    fn time(&self, name: &'static str) -> Result<Option<Timestamp>, MetadataError> {
        match self.values(name).next().map(|property| &property.value) {
            None => Ok(None),
            Some(Value::Integer(micros)) => time_of(name, *micros).map(Some),
            Some(_) => Err(self.other(name, "a time")),
        }
    }

    fn other(&self, property: &'static str, expected: &'static str) -> MetadataError {
        MetadataError::OtherValue {
            record: self.record,
            property,
            expected,
        }
    }
}

/// The number of an output in its name: `output-3`, `…-output-3-attempt-1`, `…-output-3-retry-0`.
/// None where the name has none.
pub fn shard_number(name: &str) -> Option<u64> {
    let (before, after) = name.rsplit_once("output-")?;
    if !before.is_empty() && !before.ends_with(['/', '-']) {
        return None;
    }
    let digits = after
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(after.len());
    let (number, rest) = after.split_at(digits);
    let is_try = |word: &str| {
        rest.strip_prefix(word)
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    if !rest.is_empty() && !is_try("-attempt-") && !is_try("-retry-") {
        return None;
    }
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entity::WireFault;
    use crate::entity::testing::{key, nested_record, objects, property, record_of};
    use crate::export::LogFault;

    fn log_of(records: &[&[u8]]) -> Vec<u8> {
        let (mut log, mut out) = (LogWriter::default(), Vec::new());
        records
            .iter()
            .for_each(|record| log.record(record, &mut out));
        out
    }

    fn message(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        fill(&mut out);
        out
    }

    #[test]
    fn emulator_metadata_reads_back() {
        for folder in ["managed", "managed-variants"] {
            for (name, bytes) in objects(folder, |path| path.ends_with(".export_metadata")) {
                let metadata = ExportMetadata::parse(&bytes).unwrap();
                assert_eq!(metadata.kinds.len(), 1, "{name}");
                assert!(metadata.started <= metadata.finished && metadata.started.is_some());
                // One fixture is Google's Python encoding, which says `is_partial`.
                assert!(
                    metadata.encode() == bytes || name.contains("gcs_layout"),
                    "{name}"
                );
                assert_eq!(ExportMetadata::parse(&metadata.encode()), Ok(metadata));
            }
            for (name, bytes) in objects(folder, |path| path.ends_with(".overall_export_metadata"))
            {
                assert!(
                    OverallMetadata::parse(&bytes).unwrap().encode() == bytes,
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn an_overall_file_says_what_the_export_covers() {
        let only = |folder: &str| {
            OverallMetadata::parse(
                &objects(folder, |path| path.ends_with(".overall_export_metadata"))[0].1,
            )
            .unwrap()
            .pointers
        };
        let pointer =
            |kind: Option<&str>, namespace, metadata_file: &str, entities, bytes| PartPointer {
                kind: kind.map(str::to_owned),
                namespace,
                metadata_file: metadata_file.to_owned(),
                entities,
                bytes,
            };
        let one = |namespace| NamespaceSpec::One(Namespace::new(namespace));
        let all = pointer(
            None,
            NamespaceSpec::All,
            "all_namespaces/all_kinds/all_namespaces_all_kinds.export_metadata",
            258,
            338_458,
        );
        assert_eq!(only("managed-variants/everything_no_filter"), [all]);
        assert_eq!(only("managed-variants/kind_without_entities"), []);
        let acme = pointer(
            Some("Order"),
            one("acme"),
            "namespace_acme/kind_Order/namespace_acme_kind_Order.export_metadata",
            8,
            8_848,
        );
        assert_eq!(
            only("managed-variants/gcs_layout/backups/20131012/Order"),
            [acme]
        );
        assert_eq!(only("managed-variants/two_kinds_two_namespaces").len(), 4);
        assert_eq!(
            only("managed-variants/sharded_5003_hits")[0].entities,
            5_003
        );
        assert_eq!(only("managed/default/Order")[0].namespace, one(""));
    }

    #[test]
    fn the_shards_of_a_large_kind_are_listed() {
        let (_, bytes) = &objects("managed-variants/sharded_5003_hits", |path| {
            path.ends_with(".export_metadata")
        })[0];
        let metadata = ExportMetadata::parse(bytes).unwrap();
        assert_eq!(metadata.name, "2026-11-22T07:07:43_901");
        assert_eq!(
            metadata.kinds,
            [KindFiles {
                kind: "Hit".to_owned(),
                files: vec!["output-0".to_owned(), "output-1".to_owned()]
            }]
        );
    }

    #[test]
    fn legacy_backup_names_project_times_and_objects() {
        let backups = objects("legacy", |path| {
            path.ends_with(".backup_info")
                && path
                    .rsplit('/')
                    .next()
                    .is_some_and(|name| name.matches('.').count() == 1)
        });
        assert_eq!(backups.len(), 4);
        let infos = objects("legacy", |path| {
            path.ends_with(".backup_info")
                && path
                    .rsplit('/')
                    .next()
                    .is_some_and(|name| name.matches('.').count() == 2)
        });
        for (name, bytes) in backups {
            let backup = LegacyBackup::parse(&bytes).unwrap();
            let object = name.split_once("/legacy/").unwrap().1;
            assert_eq!(
                (backup.project.as_str(), backup.handle.as_deref()),
                ("myapp", Some(format!("/gs/{object}").as_str()))
            );
            assert!(backup.started.unwrap() < backup.finished.unwrap());
            let of_2013 = !object.contains("2015");
            assert_eq!(
                backup.namespaces,
                of_2013.then(|| vec![Namespace::new("production")])
            );
            let [kind] = &backup.kinds[..] else {
                panic!("{name}")
            };
            assert!(backup.name.starts_with(&kind.kind) && !kind.files.is_empty());
            let shards: Vec<_> = kind
                .files
                .iter()
                .map(|file| shard_number(file).unwrap())
                .collect();
            assert_eq!(shards, (0..shards.len() as u64).collect::<Vec<_>>());
            // Beside it lies the same kind's own metadata, in the form of managed exports.
            let stem = name.strip_suffix("backup_info").unwrap();
            let (_, info) = infos
                .iter()
                .find(|(info, _)| info.starts_with(stem))
                .unwrap();
            let metadata = ExportMetadata::parse(info).unwrap();
            assert_eq!(
                (&metadata.kinds[0].kind, metadata.kinds[0].files.len()),
                (&kind.kind, kind.files.len())
            );
        }
    }

    fn legacy_log(properties: Vec<Property<'_>>, lists: &[(&str, &[&str])]) -> Vec<u8> {
        let info = record_of(&Entity {
            key: Some(key("s~myapp", "", LEGACY_BACKUP_KIND, Id::Number(2))),
            properties,
        });
        let list = |(kind, files): &(&str, &[&str])| {
            let file = |file: &&str| Property {
                indexed: false,
                multiple: true,
                ..property("files", Value::Bytes(file.as_bytes().to_vec().into()))
            };
            record_of(&Entity {
                key: Some(key("s~myapp", "", LEGACY_FILES_KIND, Id::Name(kind))),
                properties: files.iter().map(file).collect(),
            })
        };
        let lists: Vec<_> = lists.iter().map(list).collect();
        let records: Vec<&[u8]> = [b"1", &info[..]]
            .into_iter()
            .chain(lists.iter().map(Vec::as_slice))
            .collect();
        log_of(&records)
    }

    fn text<'a>(name: &'a str, text: &'a str) -> Property<'a> {
        property(name, Value::Bytes(text.as_bytes().into()))
    }

    #[test]
    fn unfinished_legacy_backup_keeps_planned_kinds() {
        let kinds = ["User", "Photo"].map(|kind| Property {
            multiple: true,
            ..text("kinds", kind)
        });
        let properties = [
            vec![text("name", "n"), property("complete_time", Value::Null)],
            kinds.to_vec(),
        ]
        .concat();
        let backup = LegacyBackup::parse(&legacy_log(
            properties,
            &[(
                "Photo",
                &[
                    "/gs/b/x-output-10-retry-0",
                    "/gs/b/x-output-9-retry-0",
                    "/gs/b/odd",
                ],
            )],
        ))
        .unwrap();
        let files = |kind: &str, files: &[&str]| KindFiles {
            kind: kind.to_owned(),
            files: files.iter().map(|file| file.to_string()).collect(),
        };
        assert_eq!(
            backup.kinds,
            [
                files(
                    "Photo",
                    &[
                        "/gs/b/x-output-9-retry-0",
                        "/gs/b/x-output-10-retry-0",
                        "/gs/b/odd"
                    ]
                ),
                files("User", &[])
            ]
        );
        assert_eq!(
            (
                backup.finished,
                backup.started,
                backup.namespaces,
                backup.handle
            ),
            (None, None, None, None)
        );
    }

    #[test]
    fn damaged_legacy_metadata_names_record_and_property() {
        let parse = |properties| LegacyBackup::parse(&legacy_log(properties, &[]));
        let wrong = |property, expected| {
            Err(MetadataError::OtherValue {
                record: 1,
                property,
                expected,
            })
        };
        assert_eq!(parse(vec![]), Err(MetadataError::Missing { field: "name" }));
        assert_eq!(
            parse(vec![property("name", Value::Integer(1))]),
            wrong("name", "text")
        );
        assert_eq!(
            parse(vec![property("name", Value::Bytes(b"\xff"[..].into()))]),
            wrong("name", "UTF-8 text")
        );
        assert_eq!(
            parse(vec![text("name", "n"), text("start_time", "x")]),
            wrong("start_time", "a time")
        );
        let far = property("start_time", Value::Integer(i64::MAX));
        assert_eq!(
            parse(vec![text("name", "n"), far]),
            Err(MetadataError::BadTime {
                field: "start_time",
                found: i64::MAX
            })
        );
        let other = record_of(&Entity {
            key: Some(key("p", "", "Other", Id::Number(2))),
            properties: vec![],
        });
        let found = "Other".to_owned();
        assert_eq!(
            LegacyBackup::parse(&log_of(&[b"1", &other])),
            Err(MetadataError::OtherEntity {
                record: 1,
                expected: LEGACY_BACKUP_KIND,
                found
            })
        );
        assert_eq!(
            LegacyBackup::parse(&log_of(&[b"1"])),
            Err(MetadataError::RecordCount {
                expected: "2 or more",
                found: 1
            })
        );
        assert!(matches!(
            LegacyBackup::parse(&log_of(&[b"1", &nested_record(100)])),
            Err(MetadataError::Entity { record: 1, .. })
        ));
    }

    #[test]
    fn unknown_versions_are_a_separate_error() {
        let unknown = |expected, found: &str| MetadataError::UnknownVersion {
            expected,
            found: found.to_owned(),
        };
        assert_eq!(
            OverallMetadata::parse(&log_of(&[b"4", b""])),
            Err(unknown("3", "4"))
        );
        assert_eq!(
            OverallMetadata::parse(&log_of(&[&[b'3'; 40], b"", b""])),
            Err(unknown("3", "33333333333333333333"))
        );
        assert_eq!(
            LegacyBackup::parse(&log_of(&[b"3", b""])),
            Err(unknown("1", "3"))
        );
    }

    #[test]
    fn overall_file_needs_exactly_two_records() {
        let table: [(&[&[u8]], _); 3] =
            [(&[], "2 or more"), (&[b"3"], "2"), (&[b"3", b"", b""], "2")];
        for (records, expected) in table {
            assert_eq!(
                OverallMetadata::parse(&log_of(records)),
                Err(MetadataError::RecordCount {
                    expected,
                    found: records.len()
                })
            );
        }
        let mut cut = log_of(&[b"3", b"\x0a\x00"]);
        cut.pop();
        assert!(matches!(
            OverallMetadata::parse(&cut),
            Err(MetadataError::Log(LogError {
                reason: LogFault::Truncated { .. },
                ..
            }))
        ));
    }

    #[test]
    fn incomplete_pointer_is_refused() {
        let spec = |kind_type, namespace_type| {
            message(|out| {
                put_uint(out, 1, kind_type);
                put_uint(out, 3, namespace_type);
            })
        };
        let parse = |spec: Option<&[u8]>, file: Option<&[u8]>, count| {
            let message = message(|out| {
                put_message(out, 1, |out| {
                    spec.into_iter().for_each(|spec| put_bytes(out, 1, spec));
                    file.into_iter().for_each(|file| put_bytes(out, 2, file));
                    put_int(out, 3, count);
                });
            });
            OverallMetadata::parse(&log_of(&[b"3", &message])).unwrap_err()
        };
        let sound = spec(ALL_KINDS, ALL_NAMESPACES);
        let missing = |field| MetadataError::Missing { field };
        assert_eq!(parse(None, Some(b"f"), 1), missing("entity_set_spec"));
        assert_eq!(
            parse(Some(&sound), None, 1),
            missing("export_metadata_file")
        );
        assert_eq!(
            parse(Some(&sound), Some(b"f"), -1),
            MetadataError::Negative {
                field: "num_entities",
                found: -1
            }
        );
        assert_eq!(parse(Some(b""), Some(b"f"), 1), missing("kind_type"));
        assert_eq!(
            parse(Some(&[8, 2]), Some(b"f"), 1),
            missing("namespace_type")
        );
        assert_eq!(
            parse(Some(&spec(ONE_KIND, 1)), Some(b"f"), 1),
            missing("kind")
        );
        assert_eq!(
            parse(Some(&spec(ALL_KINDS, ONE_NAMESPACE)), Some(b"f"), 1),
            missing("namespace")
        );
        assert_eq!(
            parse(Some(&spec(3, 1)), Some(b"f"), 1),
            MetadataError::UnknownChoice {
                field: "kind_type",
                expected: "1 or 2",
                found: 3
            }
        );
        assert_eq!(
            parse(Some(&spec(2, 0)), Some(b"f"), 1),
            MetadataError::UnknownChoice {
                field: "namespace_type",
                expected: "1, 2 or 3",
                found: 0
            }
        );
        assert!(matches!(
            parse(Some(&sound), Some(b"\xff"), 1),
            MetadataError::Wire(WireError {
                reason: WireFault::NotText { field: 2 },
                ..
            })
        ));
    }

    #[test]
    fn all_kinds_of_the_service_are_no_kind() {
        let metadata = message(|out| {
            put_message(out, 1, |out| put_bytes(out, 1, b"export_entities"));
            put_message(out, 2, |out| {
                put_bytes(out, 1, b"__all__");
                put_bytes(out, 2, b"output-0");
                put_message(out, 3, |out| put_bytes(out, 1, b"__all__"));
            });
        });
        let metadata = ExportMetadata::parse(&metadata).unwrap();
        assert_eq!(
            metadata.kinds,
            [KindFiles {
                kind: String::new(),
                files: vec!["output-0".to_owned()]
            }]
        );
        for kind_type in [ONE_KIND, ALL_KINDS] {
            let spec = message(|out| {
                put_uint(out, 1, kind_type);
                put_bytes(out, 2, b"__all__");
                put_uint(out, 3, ALL_NAMESPACES);
            });
            let message = message(|out| {
                put_message(out, 1, |out| {
                    put_bytes(out, 1, &spec);
                    put_bytes(out, 2, b"f");
                });
            });
            assert_eq!(
                OverallMetadata::parse(&log_of(&[b"3", &message]))
                    .unwrap()
                    .pointers[0]
                    .kind,
                None
            );
        }
    }

    #[test]
    fn cut_or_padded_metadata_is_refused() {
        assert_eq!(
            ExportMetadata::parse(b""),
            Err(MetadataError::Missing {
                field: "backup_info"
            })
        );
        let sound = ExportMetadata {
            name: "n".to_owned(),
            started: None,
            finished: None,
            kinds: vec![KindFiles {
                kind: String::new(),
                files: vec![],
            }],
        };
        assert_eq!(ExportMetadata::parse(&sound.encode()), Ok(sound.clone()));
        let cut = |len| ExportMetadata::parse(&sound.encode()[..len]);
        assert!(
            (1..5)
                .chain(6..sound.encode().len())
                .all(|len| cut(len).is_err())
        );
        assert!(ExportMetadata::parse(&[&sound.encode()[..], &[0; 3]].concat()).is_err());
        let nameless = message(|out| {
            put_message(out, 1, |_| {});
            put_message(out, 2, |out| put_bytes(out, 2, b"output-0"));
        });
        assert_eq!(
            ExportMetadata::parse(&nameless),
            Err(MetadataError::Missing {
                field: "kind_info.kind"
            })
        );
        let late = message(|out| put_message(out, 1, |out| put_int(out, 3, i64::MAX)));
        assert_eq!(
            ExportMetadata::parse(&late),
            Err(MetadataError::BadTime {
                field: "end_timestamp",
                found: i64::MAX
            })
        );
    }

    #[test]
    fn shard_numbers_are_found_in_every_naming() {
        for (name, number) in [
            ("output-0", Some(0)),
            ("output-10", Some(10)),
            ("a/b/output-7", Some(7)),
            (
                "/gs/b/datastore_backup_U2013_10_12_U-1581A-output-12-retry-0",
                Some(12),
            ),
            (
                "datastore_backup_metadata_backup_2015_05_01_Meta-1574939762280AE6C3143-output-3-attempt-1",
                Some(3),
            ),
            ("datastore_backup_x_output-5-1A-output-2-attempt-1", Some(2)),
            ("output-", None),
            ("output-x", None),
            ("output-1x", None),
            ("output-1-attempt-", None),
            ("my_output-1", None),
            ("output-99999999999999999999999", None),
            ("", None),
        ] {
            assert_eq!(shard_number(name), number, "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn metadata_comes_back_as_it_was_written(
            name in "\\PC{0,20}",
            times in prop::option::of((0..1_i64 << 50, 0..1_i64 << 50)),
            kinds in prop::collection::vec(("\\PC{0,20}", prop::collection::vec("\\PC{0,20}", 0..3)), 0..3),
            pointers in prop::collection::vec((prop::option::of("\\PC{1,9}"), prop::option::of("[a-z]{0,3}"), "\\PC{0,20}", 0..1_u64 << 63, 0..1_u64 << 63), 0..20),
        ) {
            let (started, finished) = times.and_then(|(a, b)| Timestamp::from_micros(a).zip(Timestamp::from_micros(b))).unzip();
            let kinds = kinds.into_iter().map(|(kind, files)| KindFiles { kind, files }).collect();
            let metadata = ExportMetadata { name, started, finished, kinds };
            prop_assert_eq!(ExportMetadata::parse(&metadata.encode()), Ok(metadata));
            let pointers = pointers.into_iter().map(|(kind, namespace, metadata_file, entities, bytes)| {
                let namespace = namespace.map_or(NamespaceSpec::All, |namespace| NamespaceSpec::One(Namespace::new(namespace)));
                PartPointer { kind, namespace, metadata_file, entities, bytes }
            });
            let overall = OverallMetadata { pointers: pointers.collect() };
            prop_assert_eq!(OverallMetadata::parse(&overall.encode()), Ok(overall));
        }

        #[test]
        fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), name in "\\PC{0,5}output-\\PC{0,9}") {
            let _ = ExportMetadata::parse(&bytes);
            for version in [b"1", b"3"] {
                let log = log_of(&[version, &bytes]);
                let _ = (OverallMetadata::parse(&log), LegacyBackup::parse(&log));
            }
            let _ = (OverallMetadata::parse(&bytes), LegacyBackup::parse(&bytes), shard_number(&name));
        }
    }
}
