//! Where a SOURCE, an ARCHIVE or a DEST is: a local path, or a name in a bucket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// `gs://BUCKET/NAME…` or a local path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A path of this machine; a trailing `/` is remembered by [`Location::is_folder_name`].
    Local(PathBuf),
    /// An object or a prefix of a bucket.
    Bucket {
        /// The bucket.
        bucket: String,
        /// The object's name or the prefix; may be empty.
        name: String,
    },
}

/// A text that is no location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Nothing was given.
    #[error("location: expected gs://BUCKET/NAME or a path, found nothing")]
    Empty,
    /// `gs://` without a bucket.
    #[error("location {0:?}: expected gs://BUCKET/NAME, found no bucket")]
    NoBucket(String),
    /// Another scheme than `gs://`.
    #[error("location {0:?}: expected gs://BUCKET/NAME or a path, found another scheme")]
    OtherScheme(String),
}

impl Location {
    /// Whether the location ends in `/`: then it names a folder in which a name is to be chosen.
    pub fn is_folder_name(&self) -> bool {
        self.to_string().ends_with('/')
    }

    /// Folder and name of a local object, such as `("a/b", "c.zip")`; `None` where the path has no name at its end.
    pub fn split_local(path: &Path) -> Option<(PathBuf, String)> {
        let name = path.file_name()?.to_str()?.to_owned();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some((folder.to_owned(), name))
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text.is_empty() {
            return Err(LocationError::Empty);
        }
        if let Some(rest) = text.strip_prefix("gs://") {
            let (bucket, name) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(LocationError::NoBucket(text.to_owned()));
            }
            return Ok(Location::Bucket { bucket: bucket.to_owned(), name: name.to_owned() });
        }
        match text.split_once("://") {
            Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => Err(LocationError::OtherScheme(text.to_owned())),
            _ => Ok(Location::Local(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Local(path) => write!(f, "{}", path.display()),
            Location::Bucket { bucket, name } => write!(f, "gs://{bucket}/{name}"),
        }
    }
}
