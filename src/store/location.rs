//! Where a SOURCE, an ARCHIVE or a DEST is: a local path, or a name in a bucket; and the store that
//! is there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::{DirStore, GcsClient, GcsOptions, GcsStore, Store, UploadOptions};

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
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum LocationError {
    /// Nothing was given.
    #[error("a location is empty: write gs://BUCKET/NAME or a path")]
    Empty,
    /// `gs://` without a bucket.
    #[error("{0:?} names no bucket: write gs://BUCKET/NAME")]
    NoBucket(String),
    /// `gs://` with other slashes or in other letters.
    #[error("{text:?} is not the address of a bucket: write {meant}")]
    Misspelt {
        /// As it was given.
        text: String,
        /// As it was probably meant.
        meant: String,
    },
    /// Another scheme than `gs://`.
    #[error("{0:?} has an unknown scheme: write gs://BUCKET/NAME or a path")]
    OtherScheme(String),
    /// A path that begins with `~`.
    #[error(
        "the shell did not expand ~ in {0:?}: write the whole path, such as \"$HOME/…\" in a shell, or ./{0} if the name begins with ~"
    )]
    Tilde(String),
}

impl Location {
    /// Whether the location ends in `/`: then it names a folder in which a name is to be chosen.
    pub fn is_folder_name(&self) -> bool {
        self.to_string().ends_with('/')
    }

    /// A name below this location, such as an archive in its folder.
    #[must_use]
    pub fn below(&self, name: &str) -> Location {
        match self {
            Location::Local(path) => Location::Local(path.join(name)),
            Location::Bucket {
                bucket,
                name: folder,
            } => {
                let slash = if folder.is_empty() || folder.ends_with('/') {
                    ""
                } else {
                    "/"
                };
                Location::Bucket {
                    bucket: bucket.clone(),
                    name: format!("{folder}{slash}{name}"),
                }
            }
        }
    }

    /// The folder that an object lies in.
    #[must_use]
    pub fn folder(&self) -> Location {
        match self {
            Location::Local(path) => Location::Local(
                Location::split_local(path).map_or_else(|| path.clone(), |(folder, _)| folder),
            ),
            Location::Bucket { bucket, name } => {
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                Location::Bucket {
                    bucket: bucket.clone(),
                    name: folder.to_owned(),
                }
            }
        }
    }

    /// Folder and name of an object; `None` where the location has no name at its end.
    fn split(&self) -> Option<(Location, String)> {
        match self {
            Location::Local(path) => {
                let (folder, name) = Location::split_local(path)?;
                Some((Location::Local(folder), name))
            }
            Location::Bucket { bucket, name } => {
                // The folder keeps its last slash: there may be several.
                let (folder, base) = name.split_at(name.rfind('/').map_or(0, |slash| slash + 1));
                let bucket = bucket.clone();
                let folder = Location::Bucket {
                    bucket,
                    name: folder.to_owned(),
                };
                (!base.is_empty()).then(|| (folder, base.to_owned()))
            }
        }
    }

    /// Folder and name of a local object, such as `("a/b", "c.zip")`; `None` where the path has no
    /// name at its end.
    pub fn split_local(path: &Path) -> Option<(PathBuf, String)> {
        let name = path.file_name()?.to_str()?.to_owned();
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Some((folder.to_owned(), name))
    }
}

/// What stands between the program and every store that it opens.
#[cfg(feature = "test-util")]
pub trait StoreLayer: fmt::Debug + Send + Sync {
    /// The store at a location, seen through the layer.
    fn wrap(&self, location: &Location, store: Arc<dyn Store>) -> Arc<dyn Store>;
}

/// From a location to the store that is there. Buckets share one connection.
#[derive(Debug, Clone)]
pub struct StoreRegistry {
    cloud: Arc<GcsClient>,
    upload: Arc<UploadOptions>,
    #[cfg(feature = "test-util")]
    layer: Option<Arc<dyn StoreLayer>>,
}

impl StoreRegistry {
    /// Stores of this machine, and of Cloud Storage as the options say.
    pub fn new(options: GcsOptions) -> Self {
        StoreRegistry::with(GcsClient::new(options))
    }

    /// Stores of this machine, and of that Cloud Storage.
    pub fn with(cloud: GcsClient) -> Self {
        StoreRegistry {
            cloud: Arc::new(cloud),
            upload: Arc::default(),
            #[cfg(feature = "test-util")]
            layer: None,
        }
    }

    /// The same stores, each seen through a layer.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn with_layer(self, layer: Arc<dyn StoreLayer>) -> Self {
        StoreRegistry {
            layer: Some(layer),
            ..self
        }
    }

    /// The same stores, where objects in buckets are written so.
    #[must_use]
    pub fn with_upload(&self, upload: UploadOptions) -> Self {
        StoreRegistry {
            upload: Arc::new(upload),
            ..self.clone()
        }
    }

    fn bucket(&self, bucket: &str, folder: &str) -> Arc<dyn Store> {
        let store = GcsStore::new(self.cloud.clone(), bucket, folder);
        Arc::new(store.with_upload(self.upload.clone()))
    }

    /// Waits a moment for what is still to be said to services of work that was given up, such as
    /// upload sessions that are of no use any more.
    pub async fn finish_cleanup(&self) {
        self.cloud.finish_cleanup().await;
    }

    /// What lies below a location.
    pub fn folder(&self, location: &Location) -> Arc<dyn Store> {
        let store: Arc<dyn Store> = match location {
            Location::Local(path) => Arc::new(DirStore::new(path)),
            Location::Bucket { bucket, name } => self.bucket(bucket, name),
        };
        #[cfg(feature = "test-util")]
        if let Some(layer) = &self.layer {
            return layer.wrap(location, store);
        }
        store
    }

    /// The folder of an object as a store, and the object's name there; `None` where the location
    /// has no name at its end.
    pub fn object(&self, location: &Location) -> Option<(Arc<dyn Store>, String)> {
        let (folder, name) = location.split()?;
        Some((self.folder(&folder), name))
    }
}

/// What an address of Cloud Storage begins with.
const GCS_SCHEME: &str = "gs://";

/// Whether a text is the address of a bucket, and no path.
pub fn is_bucket_address(text: &str) -> bool {
    text.starts_with(GCS_SCHEME)
}

/// The address of a bucket that was probably meant by `gs:/…`, `gs//…` or `GS://…`.
fn misspelt_bucket(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_at_checked(2)?;
    let name = rest.trim_start_matches([':', '/']);
    let has_slash = rest.starts_with(":/") || rest.starts_with("//");
    let is_meant = scheme.eq_ignore_ascii_case("gs") && has_slash && !name.is_empty();
    is_meant.then(|| format!("{GCS_SCHEME}{name}"))
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text.is_empty() {
            return Err(LocationError::Empty);
        }
        if let Some(rest) = text.strip_prefix(GCS_SCHEME) {
            let (bucket, name) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(LocationError::NoBucket(text.to_owned()));
            }
            return Ok(Location::Bucket {
                bucket: bucket.to_owned(),
                name: name.to_owned(),
            });
        }
        if let Some(meant) = misspelt_bucket(text) {
            let text = text.to_owned();
            return Err(LocationError::Misspelt { text, meant });
        }
        if text.starts_with('~') {
            return Err(LocationError::Tilde(text.to_owned()));
        }
        match text.split_once("://") {
            Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
                Err(LocationError::OtherScheme(text.to_owned()))
            }
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
