//! What names a file system holds: how long a part of a path may be, and the whole.

use std::fmt;
use std::path::Path;

use crate::runtime::working_file::{MAX_WORKING_NAME_BYTES, folder_of};

/// The longest name that common file systems hold.
const MAX_NAME_BYTES: usize = 255;

/// The longest path that the system takes, the zero at its end included.
const MAX_PATH_BYTES: usize = if cfg!(target_vendor = "apple") {
    1_024
} else {
    4_096
};

/// The limits of the file system of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameLimits {
    name_bytes: usize,
    path_bytes: usize,
}

/// A name that a file system cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// A part of it is too long.
    Name {
        /// How long it may be.
        most: usize,
    },
    /// The whole path is too long.
    Path {
        /// How long it may be.
        most: usize,
    },
    /// The name of an object of a bucket is too long.
    Object {
        /// How long it may be.
        most: usize,
    },
    /// The name is one of a file and of a folder.
    FileAndFolder,
}

impl NameLimits {
    /// The limits at a folder, which need not exist yet.
    pub fn at(folder: &Path) -> Self {
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let found = absolute
            .ancestors()
            .find_map(|folder| rustix::fs::statvfs(folder).ok());
        let name_bytes = found
            .and_then(|found| usize::try_from(found.f_namemax).ok())
            .filter(|most| *most > 0);
        NameLimits {
            name_bytes: name_bytes.unwrap_or(MAX_NAME_BYTES),
            path_bytes: MAX_PATH_BYTES - 1,
        }
    }

    /// Finds what is wrong with the name of a file that is to be written.
    ///
    /// # Errors
    /// [`NameFault`].
    pub fn check(self, path: &Path) -> Result<(), NameFault> {
        if path
            .components()
            .any(|part| part.as_os_str().len() > self.name_bytes)
        {
            return Err(NameFault::Name {
                most: self.name_bytes,
            });
        }
        // While it is written it has a working name.
        let longest = path
            .as_os_str()
            .len()
            .max(folder_of(path).as_os_str().len() + 1 + MAX_WORKING_NAME_BYTES);
        if longest > self.path_bytes {
            Err(NameFault::Path {
                most: self.path_bytes,
            })
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameFault::Name { most } => write!(f, "a part of the path is longer than {most} bytes"),
            NameFault::Path { most } => write!(f, "the path is longer than {most} bytes"),
            NameFault::Object { most } => write!(f, "the name is longer than {most} bytes"),
            NameFault::FileAndFolder => {
                f.write_str("a file system cannot hold a file and a folder of this name")
            }
        }
    }
}

/// The first name of `names` that others stand below, as in `a` and `a/b`.
pub fn file_and_folder<'a>(names: &[&'a str]) -> Option<&'a str> {
    let mut sorted = names.to_vec();
    // Where `/` orders first, what is below a name comes right after it.
    sorted.sort_by_cached_key(|name| {
        name.bytes()
            .map(|byte| if byte == b'/' { 0 } else { byte })
            .collect::<Vec<u8>>()
    });
    let is_below = |two: &&[&str]| matches!(two, [one, next] if next.strip_prefix(one).is_some_and(|rest| rest.starts_with('/')));
    sorted
        .windows(2)
        .find(is_below)
        .and_then(|two| two.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_too_long_are_found() {
        let limits = NameLimits {
            name_bytes: 143,
            path_bytes: 400,
        };
        let check = |path: String| limits.check(Path::new(&path));
        assert_eq!(check(format!("out/{}/x", "x".repeat(143))), Ok(()));
        assert_eq!(
            check(format!("out/{}/x", "x".repeat(144))),
            Err(NameFault::Name { most: 143 })
        );
        assert_eq!(check("x/".repeat(128)), Ok(()));
        assert_eq!(check("x/".repeat(130)), Err(NameFault::Path { most: 400 }));
        assert_eq!(
            NameLimits::at(Path::new("no/such/folder")),
            NameLimits::at(Path::new("."))
        );
    }

    #[test]
    fn name_of_file_and_folder_is_found() {
        assert_eq!(
            file_and_folder(&["a/b/c", "a-b", "a/b", "a.b/c", "a!"]),
            Some("a/b")
        );
        assert_eq!(
            file_and_folder(&["a/b", "a-b", "ab", "a/bc", "a/b-c"]),
            None
        );
    }
}
