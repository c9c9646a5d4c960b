//! Files of minisign.

use kindpack::signature::{PublicKey, Signature, SignatureCheck, SigningKey};

use super::run;

/// The key whose number the signatures of the corpus name.
const KEY: &str = "untrusted comment: minisign public key
RWQBAgMEBQYHCFhmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZm
";

/// A signature, which is checked, a public key, a secret key without a password.
pub fn signature(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    PublicKey::parse(text).ok();
    SigningKey::parse(text, None).ok();
    if let Ok(signature) = Signature::parse(text) {
        let good = run(is_good(signature));
        assert!(!good, "nobody has the secret key");
    }
}

async fn is_good(signature: Signature) -> bool {
    let key = PublicKey::parse(KEY).expect("a public key");
    match SignatureCheck::start(&key, signature) {
        Ok(check) => check.finish().await.is_ok(),
        Err(_) => false,
    }
}
