//! Secrets that a configuration names and does not hold.

use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;

use super::error::NotifyError;

/// No secret is longer.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In this environment variable.
    Env(String),
    /// In this file, without the line feed at its end.
    File(PathBuf),
}

/// A secret. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text of the secret.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::Env(name) => write!(f, "the environment variable {name}"),
            SecretSource::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

impl SecretSource {
    /// Reads the secret.
    ///
    /// # Errors
    /// When it is not there, or empty, or no text.
    pub fn read(&self) -> Result<Secret, NotifyError> {
        let secret = match self {
            SecretSource::Env(name) => std::env::var(name).map_err(|error| self.unusable(&error)),
            SecretSource::File(path) => {
                let file = std::fs::File::open(path);
                let mut text = String::new();
                let read =
                    |file: std::fs::File| file.take(MAX_SECRET_BYTES).read_to_string(&mut text);
                file.and_then(read).map_err(|error| self.unusable(&error))?;
                Ok(text)
            }
        }?;
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(self.unusable(&"it is empty"));
        }
        Ok(Secret(secret.to_owned()))
    }

    fn unusable(&self, reason: &dyn fmt::Display) -> NotifyError {
        NotifyError::Secret {
            from: self.to_string(),
            // What is no text may stand in the error of a variable.
            reason: match self {
                SecretSource::Env(_) => "it is not set to a text".to_owned(),
                SecretSource::File(_) => reason.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_file_is_read_without_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let source = SecretSource::File(path.clone());
        assert!(source.read().unwrap_err().to_string().contains("password"));
        std::fs::write(&path, "\r\n").unwrap();
        assert!(
            source
                .read()
                .unwrap_err()
                .to_string()
                .ends_with("it is empty")
        );
        std::fs::write(&path, " pass word \r\n").unwrap();
        let secret = source.read().unwrap();
        assert_eq!(secret.reveal(), " pass word ");
        assert!(!format!("{secret:?}").contains("pass"));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(source.read().is_err());
    }

    #[test]
    fn variable_that_is_not_set_is_named() {
        let source = SecretSource::Env("KINDPACK_TEST_NO_SUCH_VARIABLE".to_owned());
        let error = source.read().unwrap_err().to_string();
        assert!(error.contains("KINDPACK_TEST_NO_SUCH_VARIABLE"), "{error}");
    }
}
