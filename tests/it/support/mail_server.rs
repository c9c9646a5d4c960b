//! A real mail server on loopback: `aiosmtpd` from PyPI, with a certificate of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{outside_program, python_with};

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/support/mail_server.py"
);

/// What the server's user signs in with.
pub const PASSWORD: &str = "CANARY-PASSWORD";

/// A running server. It ends when it is dropped.
pub struct MailServer {
    child: Child,
    folder: tempfile::TempDir,
    pub port: u16,
}

impl MailServer {
    /// Starts a server that is secured in this way, and that refuses the first mails for a time;
    /// none where this machine cannot.
    pub fn start(security: &str, refusals: u32, test: &str) -> Option<Self> {
        let openssl = outside_program("openssl", &["openssl"], test)?;
        let python = python_with("aiosmtpd==1.4.6", "aiosmtpd", test)?;
        let folder = tempfile::tempdir().unwrap();
        make_certificates(&openssl, folder.path());
        let mut child = Command::new(python)
            .arg(SCRIPT)
            .arg(security)
            .arg(folder.path())
            .arg(refusals.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the server prints its port");
        Some(MailServer {
            child,
            folder,
            port,
        })
    }

    /// The certificate authority that signed the server's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A file in the server's folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The mails that have arrived.
    pub fn mails(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("mails")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A certificate for this machine, and the authority that signs it.
fn make_certificates(openssl: &Path, folder: &Path) {
    std::fs::write(
        folder.join("names"),
        "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
    )
    .unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for line in [
        format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=tests -days 30"),
        format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"),
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out server.pem".to_owned(),
    ] {
        let made = Command::new(openssl)
            .args(line.split(' '))
            .current_dir(folder)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "openssl {line}: {error}");
    }
}
