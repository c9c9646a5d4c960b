//! `ndjson:PATH`: one file of entities per kind, to read. `PATH/NAMESPACE/KIND.ndjson`, the default
//! namespace as `(default)`.
//!
//! A file has its name only when its step is done, and takes no other file's name.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::Value;

use super::files::{blocking, check_free, check_names, failed, sync_folder, unpublished};
use super::{StepContext, StepProgress, StepWriter, Target, TargetError};
use crate::model::{KindRef, pair_names};
use crate::runtime::private_files::create_private_folders;
use crate::runtime::working_file::{WorkingFile, WorkingFiles, folder_of};
use crate::transform::{Encoded, Encoding};

/// Entities as lines of REST JSON.
#[derive(Debug, Clone)]
pub struct NdjsonTarget {
    root: PathBuf,
    working: WorkingFiles,
}

impl NdjsonTarget {
    /// Writes below `root`, which is made when needed.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        NdjsonTarget {
            root: root.into(),
            working: WorkingFiles::default(),
        }
    }

    fn path(&self, pair: &KindRef) -> PathBuf {
        let (namespace, kind) = pair_names(pair);
        self.root.join(namespace).join(format!("{kind}.ndjson"))
    }
}

#[async_trait]
impl Target for NdjsonTarget {
    fn encoding(&self) -> Encoding {
        Encoding::JsonLine
    }

    fn resumes_within_steps(&self) -> bool {
        false
    }

    async fn count(&self, pair: &KindRef) -> Result<u64, TargetError> {
        let path = self.path(pair);
        blocking(move || {
            let file = match File::open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
                file => file.map_err(failed(&path, "opening"))?,
            };
            let mut reader = BufReader::with_capacity(1 << 20, file);
            let mut lines = 0;
            loop {
                let buffer = reader.fill_buf().map_err(failed(&path, "reading"))?;
                if buffer.is_empty() {
                    return Ok(lines);
                }
                lines += buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
                let len = buffer.len();
                reader.consume(len);
            }
        })
        .await
    }

    async fn check_names(&self, step: &StepContext) -> Result<(), TargetError> {
        let (path, root) = (self.path(&step.pair), self.root.clone());
        blocking(move || {
            check_names(&root, [path.as_path()])?;
            check_free(&path)
        })
        .await
    }

    async fn open(
        &self,
        step: &StepContext,
        _: StepProgress,
    ) -> Result<Box<dyn StepWriter>, TargetError> {
        let (path, working, begun_before) = (
            self.path(&step.pair),
            self.working.clone(),
            step.begun_before,
        );
        blocking(move || {
            let folder = folder_of(&path);
            create_private_folders(folder).map_err(failed(folder, "creating the folder"))?;
            let working = working.create(&path).map_err(failed(&path, "creating"))?;
            Ok(Box::new(NdjsonSink {
                path,
                working,
                begun_before,
                progress: StepProgress::default(),
            }) as Box<dyn StepWriter>)
        })
        .await
    }

    async fn differing(&self, _: Vec<Value>) -> Result<Option<u64>, TargetError> {
        Ok(None)
    }
}

#[derive(Debug)]
struct NdjsonSink {
    path: PathBuf,
    working: WorkingFile,
    /// Whether an earlier run may have been cut after it gave the file its name.
    begun_before: bool,
    progress: StepProgress,
}

#[async_trait]
impl StepWriter for NdjsonSink {
    async fn write(&mut self, batch: Encoded) -> Result<StepProgress, TargetError> {
        self.progress = self.progress.and(batch.len() as u64);
        let progress = self.progress;
        let (file, path) = (self.working.file().try_clone(), self.path.clone());
        blocking(move || {
            file.and_then(|mut file| file.write_all(batch.bytes()))
                .map_err(failed(&path, "writing"))?;
            Ok(progress)
        })
        .await
    }

    fn end_piece(&mut self) {
        self.progress = self.progress.plus_piece();
    }

    async fn finish(self: Box<Self>) -> Result<StepProgress, TargetError> {
        blocking(move || {
            let NdjsonSink {
                path,
                working,
                begun_before,
                progress,
            } = *self;
            working
                .file()
                .sync_all()
                .map_err(failed(&path, "writing"))?;
            let published = if begun_before {
                working.publish_or_match()
            } else {
                working.publish(false)
            };
            published.map_err(unpublished(&path))?;
            sync_folder(folder_of(&path));
            Ok(progress)
        })
        .await
    }
}
