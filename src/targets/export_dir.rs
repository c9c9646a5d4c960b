//! `dir:PATH`: managed exports, one folder for each kind of each namespace, ready for Google's own
//! import.
//!
//! `PATH/NAMESPACE/KIND/NAME/NAME.overall_export_metadata`, NAME being the start of the export. The
//! folder NAME appears when it is whole, and takes no other one's place.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde_json::Value;

use super::files::{blocking, check_free, check_names, failed, sync_folder, unpublished};
use super::{StepContext, StepProgress, StepWriter, Target, TargetError};
use crate::export::layout::{ManagedExport, OVERALL_SUFFIX};
use crate::export::log::{self, LogError, LogWriter, RecordJoiner};
use crate::model::{KindRef, PIECE_LEN_BYTES, pair_names};
use crate::runtime::private_files::{create_private_folders, private_file_options};
use crate::runtime::working_file::{WorkingFolder, folder_of, is_working};
use crate::transform::{Encoded, Encoding};

/// Managed exports in a folder.
#[derive(Debug, Clone)]
pub struct DirTarget {
    root: PathBuf,
}

impl DirTarget {
    /// Writes below `root`, which is made when needed.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        DirTarget { root: root.into() }
    }

    fn folder(&self, pair: &KindRef) -> PathBuf {
        let (namespace, kind) = pair_names(pair);
        self.root.join(namespace).join(kind)
    }
}

#[async_trait]
impl Target for DirTarget {
    fn encoding(&self) -> Encoding {
        Encoding::Record
    }

    fn resumes_within_steps(&self) -> bool {
        false
    }

    async fn count(&self, pair: &KindRef) -> Result<u64, TargetError> {
        let folder = self.folder(pair);
        blocking(move || {
            let mut exports = children(&folder)?;
            exports.retain(|around| !is_working(around));
            exports.iter().map(|around| count_finished(around)).sum()
        })
        .await
    }

    async fn check_names(&self, step: &StepContext) -> Result<(), TargetError> {
        let (folder, root) = (self.folder(&step.pair), self.root.clone());
        let export = ManagedExport::from_pair(&step.pair, step.started, step.finished);
        blocking(move || {
            let around = folder.join(export.name());
            let files = [
                export.output_path(0),
                export.metadata_path(),
                export.overall_path(),
            ]
            .map(|name| around.join(name));
            check_names(&root, files.iter().map(PathBuf::as_path))?;
            check_free(&around)
        })
        .await
    }

    async fn open(
        &self,
        step: &StepContext,
        _: StepProgress,
    ) -> Result<Box<dyn StepWriter>, TargetError> {
        let folder = self.folder(&step.pair);
        let export = ManagedExport::from_pair(&step.pair, step.started, step.finished);
        let (begun_before, root) = (step.begun_before, self.root.clone());
        blocking(move || {
            let sink = DirSink::create(root, &folder, export, begun_before)?;
            Ok(Box::new(sink) as Box<dyn StepWriter>)
        })
        .await
    }

    async fn differing(&self, _: Vec<Value>) -> Result<Option<u64>, TargetError> {
        Ok(None)
    }
}

#[derive(Debug)]
struct DirSink {
    root: PathBuf,
    export: ManagedExport,
    around: PathBuf,
    working: WorkingFolder,
    /// Whether an earlier run may have been cut after it gave the folder its name.
    begun_before: bool,
    output: PathBuf,
    file: File,
    log: LogWriter,
    /// Bytes of the records so far, without their framing.
    record_bytes: u64,
    progress: StepProgress,
}

#[async_trait]
impl StepWriter for DirSink {
    async fn write(&mut self, batch: Encoded) -> Result<StepProgress, TargetError> {
        self.progress = self.progress.and(batch.len() as u64);
        let mut framed = Vec::with_capacity(batch.bytes().len() + batch.bytes().len() / 50);
        for (record, _) in batch.iter() {
            self.log.record(record, &mut framed);
            self.record_bytes += record.len() as u64;
        }
        let progress = self.progress;
        let (file, output) = (self.file.try_clone(), self.output.clone());
        blocking(move || {
            file.and_then(|mut file| file.write_all(&framed))
                .map_err(failed(&output, "writing"))?;
            Ok(progress)
        })
        .await
    }

    fn end_piece(&mut self) {
        self.progress = self.progress.plus_piece();
    }

    async fn finish(self: Box<Self>) -> Result<StepProgress, TargetError> {
        blocking(move || self.end()).await
    }
}

impl DirSink {
    fn create(
        root: PathBuf,
        folder: &Path,
        export: ManagedExport,
        begun_before: bool,
    ) -> Result<Self, TargetError> {
        let around = folder.join(export.name());
        make_folder(folder)?;
        let working =
            WorkingFolder::create(&around).map_err(failed(&around, "creating the folder"))?;
        let output = working.working_path().join(export.output_path(0));
        make_folder(folder_of(&output))?;
        let file = create_new(&output).map_err(failed(&output, "creating"))?;
        Ok(DirSink {
            root,
            export,
            around,
            working,
            begun_before,
            output,
            file,
            log: LogWriter::default(),
            record_bytes: 0,
            progress: StepProgress::default(),
        })
    }

    /// Ends the log, adds the metadata, and gives the folder its name.
    fn end(mut self) -> Result<StepProgress, TargetError> {
        self.end_log()?;
        let folder = self.working.working_path();
        let metadata = folder.join(self.export.metadata_path());
        write_file(&metadata, &self.export.metadata(1))?;
        let overall = self
            .export
            .overall(self.progress.entities, self.record_bytes);
        write_file(&folder.join(self.export.overall_path()), &overall)?;
        // The folder must not survive a power cut that the names in it did not.
        sync_parents(&self.output, folder);
        self.working
            .publish(self.begun_before)
            .map_err(unpublished(&self.around))?;
        sync_parents(&self.around, &self.root);
        Ok(self.progress)
    }

    fn end_log(&mut self) -> Result<(), TargetError> {
        let mut end = Vec::new();
        std::mem::take(&mut self.log).finish(&mut end);
        self.file
            .write_all(&end)
            .and_then(|()| self.file.sync_all())
            .map_err(failed(&self.output, "writing"))
    }
}

/// Makes the names on the way from `root` to a path survive a power cut.
fn sync_parents(path: &Path, root: &Path) {
    path.ancestors()
        .skip(1)
        .take_while(|folder| folder.starts_with(root))
        .for_each(sync_folder);
}

fn make_folder(folder: &Path) -> Result<(), TargetError> {
    create_private_folders(folder).map_err(failed(folder, "creating the folder"))
}

fn create_new(path: &Path) -> io::Result<File> {
    private_file_options()
        .write(true)
        .create_new(true)
        .open(path)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), TargetError> {
    create_new(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(failed(path, "writing"))
}

/// What lies in a folder; nothing where there is none.
fn children(folder: &Path) -> Result<Vec<PathBuf>, TargetError> {
    match fs::read_dir(folder) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        entries => entries
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(failed(folder, "listing")),
    }
}

/// Records of an export; none where its completion marker is missing.
fn count_finished(around: &Path) -> Result<u64, TargetError> {
    let is_mark = |path: &PathBuf| path.to_string_lossy().ends_with(OVERALL_SUFFIX);
    if children(around)?.iter().any(is_mark) {
        count_below(around)
    } else {
        Ok(0)
    }
}

/// Records in the outputs `NAMESPACE/KIND/output-N` of an export.
fn count_below(around: &Path) -> Result<u64, TargetError> {
    let mut records = 0;
    for namespace in children(around)? {
        for kind in children(&namespace)? {
            for output in children(&kind)? {
                if output
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("output-"))
                {
                    records += count_records(&output)?;
                }
            }
        }
    }
    Ok(records)
}

fn count_records(path: &Path) -> Result<u64, TargetError> {
    let wrong = |fault: String| TargetError::Unreadable {
        name: path.display().to_string(),
        fault,
    };
    let mut file = File::open(path).map_err(failed(path, "opening"))?;
    let mut counter = RecordCounter::default();
    loop {
        let mut piece = Vec::new();
        Read::by_ref(&mut file)
            .take(PIECE_LEN_BYTES as u64)
            .read_to_end(&mut piece)
            .map_err(failed(path, "reading"))?;
        counter
            .push(&piece)
            .map_err(|error| wrong(error.to_string()))?;
        if piece.len() < PIECE_LEN_BYTES {
            return counter.finish().map_err(|error| wrong(error.to_string()));
        }
    }
}

/// Counts the records of a log that comes in pieces.
#[derive(Default)]
struct RecordCounter {
    records: u64,
    offset: u64,
    joiner: RecordJoiner,
}

impl RecordCounter {
    fn push(&mut self, piece: &[u8]) -> Result<(), LogError> {
        let ends = log::read_piece(piece, self.offset, |_| {
            self.records += 1;
            Ok::<_, LogError>(())
        })?;
        self.records += u64::from(self.joiner.push(ends)?.is_some());
        self.offset += piece.len() as u64;
        Ok(())
    }

    fn finish(self) -> Result<u64, LogError> {
        self.joiner.finish()?;
        Ok(self.records)
    }
}
