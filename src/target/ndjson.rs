//! `ndjson:PATH`: one file of entities per kind, to read. `PATH/NAMESPACE/KIND.ndjson`, the default namespace as `(default)`.
//!
//! A file stands under its name only when its step is done.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::files::{blocking, failed, namespace_folder, sync_folder};
use super::{Encoded, Encoding, Progress, StepInfo, StepSink, Target, TargetError};
use crate::model::{Pair, file_name};

/// Entities as lines of REST JSON.
#[derive(Debug, Clone)]
pub struct NdjsonTarget {
    root: PathBuf,
}

impl NdjsonTarget {
    /// Writes below `root`, which is made when needed.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        NdjsonTarget { root: root.into() }
    }

    fn path(&self, pair: &Pair) -> PathBuf {
        self.root.join(namespace_folder(pair)).join(format!("{}.ndjson", file_name(pair.kind.as_str())))
    }
}

impl Target for NdjsonTarget {
    fn encoding(&self) -> Encoding {
        Encoding::JsonLine
    }

    fn resumes_within_steps(&self) -> bool {
        false
    }

    fn count<'a>(&'a self, pair: &'a Pair) -> BoxFuture<'a, Result<u64, TargetError>> {
        let path = self.path(pair);
        Box::pin(blocking(move || {
            let file = match File::open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
                file => file.map_err(failed(&path, "cannot open it"))?,
            };
            let mut reader = BufReader::with_capacity(1 << 20, file);
            let mut lines = 0;
            loop {
                let buffer = reader.fill_buf().map_err(failed(&path, "cannot read it"))?;
                if buffer.is_empty() {
                    return Ok(lines);
                }
                lines += buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
                let len = buffer.len();
                reader.consume(len);
            }
        }))
    }

    fn open<'a>(&'a self, step: &'a StepInfo, _: Progress) -> BoxFuture<'a, Result<Box<dyn StepSink>, TargetError>> {
        let path = self.path(&step.pair);
        Box::pin(blocking(move || {
            let partial = path.with_extension("ndjson.partial");
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(failed(folder, "cannot make the folder"))?;
            }
            let file = File::create(&partial).map_err(failed(&partial, "cannot create it"))?;
            Ok(Box::new(NdjsonSink { path, partial, file, progress: Progress::default() }) as Box<dyn StepSink>)
        }))
    }

    fn differing<'a>(&'a self, _: Vec<Value>) -> BoxFuture<'a, Result<Option<u64>, TargetError>> {
        Box::pin(async { Ok(None) })
    }
}

#[derive(Debug)]
struct NdjsonSink {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    progress: Progress,
}

impl StepSink for NdjsonSink {
    fn write<'a>(&'a mut self, batch: Encoded) -> BoxFuture<'a, Result<Progress, TargetError>> {
        self.progress = self.progress.and(batch.len() as u64);
        let progress = self.progress;
        let (file, partial) = (self.file.try_clone(), self.partial.clone());
        Box::pin(blocking(move || {
            file.and_then(|mut file| file.write_all(batch.bytes())).map_err(failed(&partial, "cannot write it"))?;
            Ok(progress)
        }))
    }

    fn end_piece(&mut self) {
        self.progress = self.progress.at_piece_end();
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<Progress, TargetError>> {
        Box::pin(blocking(move || {
            self.file.sync_all().map_err(failed(&self.partial, "cannot write it"))?;
            fs::rename(&self.partial, &self.path).map_err(failed(&self.path, "cannot give it its name"))?;
            if let Some(folder) = self.path.parent() {
                sync_folder(folder);
            }
            Ok(self.progress)
        }))
    }
}
