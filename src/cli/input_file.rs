//! Files that are named on the command line or in a profile: plans, lists, rules, configurations.
//!
//! Knows bytes, not what they mean. A file is read once, up to a limit, and away from the thread
//! that listens to signals: a pipe may be named as well, and one that never ends does not hold up
//! Ctrl-C.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::runtime::workers::Workers;

/// Bytes at the beginning that say what a file is.
const HEAD_BYTES: u64 = 64;

/// Folders whose names are no files: `/dev/stdin` and `/dev/fd/63` name what another process has
/// opened.
const DEVICE_FOLDERS: [&str; 2] = ["/dev", "/proc"];

/// A file that is open, and whose beginning is read.
pub struct InputFile {
    path: PathBuf,
    file: File,
    head: Vec<u8>,
}

impl InputFile {
    /// Opens a file and reads its beginning.
    pub async fn open(path: &Path) -> Result<Self, Failure> {
        let path = path.to_owned();
        run_blocking(move || {
            let mut head = Vec::new();
            let file = File::open(&path).and_then(|file| {
                (&file).take(HEAD_BYTES).read_to_end(&mut head)?;
                Ok(file)
            });
            let file = file.map_err(|error| Failure::io(path.display(), &error))?;
            Ok(InputFile { path, file, head })
        })
        .await
    }

    /// The beginning.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether other files may stand beside it: it is a file under a name of its own, no pipe and
    /// no device.
    pub fn has_own_name(&self) -> bool {
        let is_device = std::path::absolute(&self.path)
            .is_ok_and(|path| DEVICE_FOLDERS.iter().any(|folder| path.starts_with(folder)));
        !is_device
            && self
                .file
                .metadata()
                .is_ok_and(|metadata| metadata.is_file())
    }

    /// Reads all of it.
    pub async fn read(self, max_bytes: u64) -> Result<Vec<u8>, Failure> {
        let InputFile {
            path,
            mut file,
            head,
        } = self;
        run_blocking(move || {
            let mut bytes = head;
            let rest = max_bytes
                .saturating_add(1)
                .saturating_sub(bytes.len() as u64);
            file.by_ref()
                .take(rest)
                .read_to_end(&mut bytes)
                .map_err(|error| Failure::io(path.display(), &error))?;
            if bytes.len() as u64 > max_bytes {
                return Err(Failure::usage(format!(
                    "{}: the file is longer than {max_bytes} bytes",
                    path.display()
                )));
            }
            Ok(bytes)
        })
        .await
    }

    /// Reads all of it as text.
    pub async fn read_text(self, max_bytes: u64) -> Result<String, Failure> {
        let path = self.path.clone();
        let bytes = self.read(max_bytes).await?;
        String::from_utf8(bytes)
            .map_err(|_| Failure::usage(format!("{}: the file is not UTF-8", path.display())))
    }
}

/// Reads a whole file as text.
pub async fn read_input_file(path: &Path, max_bytes: u64) -> Result<String, Failure> {
    InputFile::open(path).await?.read_text(max_bytes).await
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    Workers::run_blocking(work).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn file_over_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        std::fs::write(&path, "x".repeat(100)).unwrap();
        assert_eq!(read_input_file(&path, 100).await.unwrap().len(), 100);
        assert!(
            read_input_file(&path, 99)
                .await
                .unwrap_err()
                .sentence()
                .contains("longer than 99 bytes")
        );
        assert!(
            read_input_file(Path::new("/dev/zero"), 1 << 20)
                .await
                .is_err()
        );
        assert!(read_input_file(folder.path(), 100).await.is_err());
        std::fs::write(&path, [0xff]).unwrap();
        assert!(
            read_input_file(&path, 100)
                .await
                .unwrap_err()
                .sentence()
                .contains("not UTF-8")
        );
    }

    #[tokio::test]
    async fn device_has_no_name_of_its_own() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(InputFile::open(file.path()).await.unwrap().has_own_name());
        assert!(
            !InputFile::open(Path::new("/dev/null"))
                .await
                .unwrap()
                .has_own_name()
        );
    }
}
