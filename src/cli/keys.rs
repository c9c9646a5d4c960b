//! The key files that are named on the command line or in the configuration.
//!
//! Keys are read before anything else is done. No message holds a key or a password.

use std::env;
use std::path::Path;

use super::failure::Failure;
use super::input_file::read_input_file;
use crate::runtime::workers::Workers;
use crate::signature::{KeyError, MAX_SIGNATURE_BYTES, PublicKey, SigningKey};

/// The variable that holds the password of a signing key.
const PASSWORD_VARIABLE: &str = "KINDPACK_SIGN_PASSWORD";

/// The variable that names the file of that password.
const PASSWORD_FILE_VARIABLE: &str = "KINDPACK_SIGN_PASSWORD_FILE";

/// Reads the secret key that signs archives.
pub async fn read_signing_key(path: &Path) -> Result<SigningKey, Failure> {
    let text = read_input_file(path, MAX_SIGNATURE_BYTES).await?;
    let password = signing_password().await?;
    let parsed = Workers::run_blocking(move || SigningKey::parse(&text, password.as_deref()));
    parsed.await?.map_err(|error| key_failure(path, error))
}

/// Reads the public key that is trusted.
pub async fn read_public_key(path: &Path) -> Result<PublicKey, Failure> {
    let text = read_input_file(path, MAX_SIGNATURE_BYTES).await?;
    PublicKey::parse(&text).map_err(|error| key_failure(path, error))
}

/// The password of the signing key, where the environment has one. An empty one is a password, too.
async fn signing_password() -> Result<Option<String>, Failure> {
    match (
        env::var_os(PASSWORD_VARIABLE),
        env::var_os(PASSWORD_FILE_VARIABLE),
    ) {
        (Some(_), Some(_)) => Err(Failure::usage(format!(
            "{PASSWORD_VARIABLE} and {PASSWORD_FILE_VARIABLE} are both set"
        ))
        .hint("unset one of them")),
        (Some(password), None) => match password.into_string() {
            Ok(password) => Ok(Some(password)),
            Err(_) => Err(Failure::usage(format!("{PASSWORD_VARIABLE} is not UTF-8"))),
        },
        (None, Some(file)) => {
            let text = read_input_file(Path::new(&file), MAX_SIGNATURE_BYTES).await?;
            Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
        (None, None) => Ok(None),
    }
}

fn key_failure(path: &Path, error: KeyError) -> Failure {
    let failure = Failure::usage(format!("{}: {error}", path.display()));
    failure.hint(match error {
        KeyError::NotASecretKey => {
            "name the secret key that `minisign -G` wrote, such as minisign.key"
        }
        KeyError::NotAPublicKey => {
            "name the public key that `minisign -G` wrote, such as minisign.pub"
        }
        KeyError::PasswordRequired => {
            "set KINDPACK_SIGN_PASSWORD, or KINDPACK_SIGN_PASSWORD_FILE to the file of the password"
        }
        KeyError::WrongPassword => {
            "check KINDPACK_SIGN_PASSWORD, or the file that KINDPACK_SIGN_PASSWORD_FILE names"
        }
    })
}
