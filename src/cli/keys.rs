//! The key files that are named on the command line or in the configuration.
//!
//! Keys are read before anything else is done. No message holds a key or a password.

use std::env;
use std::path::{Path, PathBuf};

use age::x25519::Recipient;
use tokio::sync::OnceCell;

use super::failure::Failure;
use super::input_file::read_input_file;
use super::text::shell_quote;
use crate::encryption::{
    AgeKeyError, Identities, MAX_KEYS_BYTES, Recipients, parse_recipient, parse_recipients,
};
use crate::runtime::workers::Workers;
use crate::signature::{KeyError, MAX_SIGNATURE_BYTES, PublicKey, SigningKey};

/// The variable that holds the password of a signing key.
const PASSWORD_VARIABLE: &str = "KINDPACK_SIGN_PASSWORD";

/// The variable that names the file of that password.
const PASSWORD_FILE_VARIABLE: &str = "KINDPACK_SIGN_PASSWORD_FILE";

/// How an age identity begins.
const SECRET_KEY: &str = "AGE-SECRET-KEY-";

/// How to get a recipient.
const KEYGEN: &str = "run `age-keygen -o key.txt`, and pass the public key that it prints";

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

/// Who can decrypt an archive: recipients, and files of recipients.
pub async fn read_recipients(texts: &[String]) -> Result<Option<Recipients>, Failure> {
    if texts.is_empty() {
        return Ok(None);
    }
    let mut all = Vec::new();
    for text in texts {
        match parse_recipient(text) {
            Ok(recipient) => all.push(recipient),
            Err(_) if text.starts_with(SECRET_KEY) => return Err(secret_given()),
            Err(error) if !Path::new(text).exists() => return Err(recipients_failure(&error)),
            Err(_) => all.extend(read_recipient_file(Path::new(text)).await?),
        }
    }
    Recipients::new(all)
        .map(Some)
        .map_err(|error| recipients_failure(&error))
}

async fn read_recipient_file(path: &Path) -> Result<Vec<Recipient>, Failure> {
    let text = read_input_file(path, MAX_KEYS_BYTES).await?;
    let mut lines = text.lines();
    if lines.any(|line| line.trim_start().starts_with(SECRET_KEY)) {
        return Err(secret_file_given(path));
    }
    parse_recipients(&text)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())).hint(KEYGEN))
}

fn recipients_failure(error: &AgeKeyError) -> Failure {
    Failure::usage(format!("--encrypt-to: {error}")).hint(KEYGEN)
}

/// The secret is not shown again.
fn secret_given() -> Failure {
    Failure::usage("--encrypt-to: this is a secret identity, not a recipient")
        .hint("pass the recipient that `age-keygen -y FILE` prints")
}

/// A file of identities where one of recipients must be.
fn secret_file_given(path: &Path) -> Failure {
    let path = path.display().to_string();
    Failure::usage(format!(
        "--encrypt-to: {path} holds an identity, which is secret, and not a recipient"
    ))
    .hint(format!(
        "pass the recipient that `age-keygen -y {}` prints",
        shell_quote(&path)
    ))
}

/// The files of identities that are named, read when they are needed and only once.
pub struct IdentityFiles {
    paths: Vec<PathBuf>,
    identities: OnceCell<Option<Identities>>,
}

impl IdentityFiles {
    pub fn new(paths: Vec<PathBuf>) -> Self {
        IdentityFiles {
            paths,
            identities: OnceCell::new(),
        }
    }

    /// Whether any file is named.
    pub fn are_named(&self) -> bool {
        !self.paths.is_empty()
    }

    /// The identities; none where no file is named.
    pub async fn read(&self) -> Result<Option<&Identities>, Failure> {
        let identities = self.identities.get_or_try_init(|| async {
            let mut all: Option<Identities> = None;
            for path in &self.paths {
                let read = read_identities(path).await?;
                all = Some(all.map_or(read.clone(), |all| all.and(&read)));
            }
            Ok::<_, Failure>(all)
        });
        Ok(identities.await?.as_ref())
    }
}

async fn read_identities(path: &Path) -> Result<Identities, Failure> {
    let text = read_input_file(path, MAX_KEYS_BYTES).await?;
    Identities::parse(&text).map_err(|error| {
        Failure::usage(format!("{}: {error}", path.display()))
            .hint("name the file that `age-keygen -o FILE` wrote")
    })
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
