//! Exports shaped as the real service writes them: `docs/formats.md` 9, "What the service writes
//! that the emulators do not".

use std::path::Path;

use kindpack::export::log::LogWriter;
use kindpack::export::metadata::{NamespaceSpec, OverallMetadata, PartPointer};
use kindpack::model::Namespace;

use super::data::{STARTED_MICROS, put, varint};

/// Bytes in a block of a log.
pub const BLOCK: usize = 32_768;

/// Which bytes the completion marker counts, and how outputs end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The emulators': sizes of files, nothing padded, no name for all kinds.
    Emulator,
    /// The service's of today: lengths of records, nothing padded.
    Service,
    /// The service's until 2023: lengths of records, outputs padded to whole blocks.
    PaddedService,
}

pub const FORMS: [Form; 3] = [Form::Emulator, Form::Service, Form::PaddedService];

/// What one pointer of a completion marker stands for.
pub struct Part<'a> {
    /// `None` stands for all kinds.
    pub kind: Option<&'a str>,
    /// `None` stands for all namespaces.
    pub namespace: Option<&'a str>,
    /// The records of each output.
    pub shards: Vec<Vec<Vec<u8>>>,
}

impl Part<'_> {
    fn labels(&self) -> (String, String) {
        let namespace = match self.namespace {
            None => "all_namespaces".to_owned(),
            Some("") => "default_namespace".to_owned(),
            Some(other) => format!("namespace_{other}"),
        };
        (
            namespace,
            self.kind
                .map_or_else(|| "all_kinds".to_owned(), |kind| format!("kind_{kind}")),
        )
    }
}

/// An output with these records.
pub fn output(records: &[Vec<u8>], is_padded: bool) -> Vec<u8> {
    let (mut log, mut out) = (LogWriter::default(), Vec::new());
    records
        .iter()
        .for_each(|record| log.record(record, &mut out));
    if is_padded {
        // Where nothing was written there is a whole block of padding.
        out.resize(out.len().next_multiple_of(BLOCK).max(BLOCK), 0);
    }
    out
}

/// Writes a finished export into `folder`, which gives it its name.
pub fn write_export_of(form: Form, folder: &Path, parts: &[Part<'_>]) {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let mut pointers = Vec::new();
    for part in parts {
        let (namespace, kind) = part.labels();
        let below = format!("{namespace}/{kind}");
        let mut bytes = 0;
        for (number, records) in part.shards.iter().enumerate() {
            let output = output(records, form == Form::PaddedService);
            bytes += if form == Form::Emulator {
                output.len()
            } else {
                records.iter().map(Vec::len).sum()
            } as u64;
            super::write(&folder.join(format!("{below}/output-{number}")), output);
        }
        let metadata_file = format!("{below}/{namespace}_{kind}.export_metadata");
        super::write(&folder.join(&metadata_file), metadata(form, name, part));
        pointers.push(PartPointer {
            kind: part.kind.map(str::to_owned),
            namespace: part.namespace.map_or(NamespaceSpec::All, |namespace| {
                NamespaceSpec::One(Namespace::new(namespace))
            }),
            metadata_file,
            entities: part.shards.iter().map(|records| records.len() as u64).sum(),
            bytes,
        });
    }
    super::write(
        &folder.join(format!("{name}.overall_export_metadata")),
        OverallMetadata { pointers }.encode(),
    );
}

/// `Backup` with its information 1 and one kind 2, which has a schema 3 where the service writes
/// it.
fn metadata(form: Form, name: &str, part: &Part<'_>) -> Vec<u8> {
    let mut info = Vec::new();
    put(
        &mut info,
        1,
        if form == Form::PaddedService {
            b"export_entities"
        } else {
            name.as_bytes()
        },
    );
    for (field, micros) in [(2, STARTED_MICROS), (3, STARTED_MICROS + 9_000_000)] {
        varint(&mut info, field << 3);
        varint(&mut info, micros as u64);
    }
    let kind_name = part.kind.unwrap_or(if form == Form::Emulator {
        ""
    } else {
        "__all__"
    });
    let mut kind = Vec::new();
    put(&mut kind, 1, kind_name.as_bytes());
    (0..part.shards.len())
        .for_each(|number| put(&mut kind, 2, format!("output-{number}").as_bytes()));
    if form != Form::Emulator {
        let mut schema = Vec::new();
        put(&mut schema, 1, kind_name.as_bytes());
        put(&mut kind, 3, &schema);
    }
    let mut backup = Vec::new();
    put(&mut backup, 1, &info);
    put(&mut backup, 2, &kind);
    backup
}
