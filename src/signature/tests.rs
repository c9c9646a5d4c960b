use minisign::KeyPair;
use proptest::prelude::*;

use super::*;

struct TestKey {
    secret: SigningKey,
    public: PublicKey,
}

fn test_key() -> TestKey {
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    let text = pair.sk.to_box(None).unwrap().into_string();
    let public = pair.pk.to_box().unwrap().into_string();
    TestKey {
        secret: SigningKey::parse(&text, None).unwrap(),
        public: PublicKey::parse(&public).unwrap(),
    }
}

async fn sign(key: &TestKey, bytes: &'static [u8]) -> String {
    let signer = Signer::start(&key.secret, "file:set.zip\thashed".to_owned());
    signer.push(Bytes::from_static(bytes)).await;
    signer.finish().await.unwrap().unwrap()
}

async fn check(
    key: &TestKey,
    signature: &str,
    bytes: &'static [u8],
) -> Result<GoodSignature, SignatureError> {
    let check = SignatureCheck::start(&key.public, Signature::parse(signature)?)?;
    check.push(Bytes::from_static(bytes)).await;
    check.finish().await
}

#[tokio::test]
async fn signature_is_good_for_its_bytes_only() {
    let key = test_key();
    let signature = sign(&key, b"an archive").await;
    let good = check(&key, &signature, b"an archive").await.unwrap();
    assert_eq!(good.key, key.secret.id());
    assert_eq!(good.trusted_comment, "file:set.zip\thashed");
    let other = check(&key, &signature, b"another one").await;
    assert!(matches!(other, Err(SignatureError::Mismatch(_))));
    let other = check(&test_key(), &signature, b"an archive").await;
    assert!(matches!(other, Err(SignatureError::OtherKey { .. })));
}

#[tokio::test]
async fn changed_signature_is_refused() {
    let key = test_key();
    let signature = sign(&key, b"an archive").await;
    assert!(signature.lines().nth(2).unwrap().contains("set.zip"));
    let comment = signature.replace("set.zip", "old.zip");
    assert!(check(&key, &comment, b"an archive").await.is_err());
    for at in 0..signature.trim_end().len() {
        let mut changed = signature.clone().into_bytes();
        changed[at] ^= 1;
        let Ok(changed) = String::from_utf8(changed) else {
            continue;
        };
        let is_untrusted = at < signature.find('\n').unwrap();
        let checked = check(&key, &changed, b"an archive").await;
        assert!(checked.is_err() || is_untrusted, "byte {at}: {changed}");
    }
}

#[tokio::test]
async fn short_or_legacy_signature_is_refused() {
    let key = test_key();
    let signature = sign(&key, b"").await;
    for len in 0..signature.trim_end().len() {
        assert!(Signature::parse(&signature[..len]).is_err(), "{len}");
    }
    let legacy = signature.replacen("\nRU", "\nRW", 1);
    assert!(matches!(
        Signature::parse(&legacy),
        Err(SignatureError::Legacy)
    ));
}

#[test]
fn other_files_are_no_keys() {
    for text in ["", "one line", "two\nlines", "untrusted comment: x\nRWQ="] {
        assert_eq!(
            SigningKey::parse(text, None).unwrap_err(),
            KeyError::NotASecretKey
        );
        assert_eq!(PublicKey::parse(text).unwrap_err(), KeyError::NotAPublicKey);
    }
}

#[test]
fn changed_secret_key_is_refused() {
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    let text = pair.sk.to_box(None).unwrap().into_string();
    let line = text.lines().nth(1).unwrap();
    let mut bytes = BASE64_STANDARD.decode(line).unwrap();
    bytes[70] ^= 1;
    let changed = text.replace(line, &BASE64_STANDARD.encode(bytes));
    assert!(SigningKey::parse(&changed, None).is_err());
}

#[test]
fn debug_output_shows_no_secret() {
    let key = test_key();
    assert_eq!(
        format!("{:?}", key.secret),
        format!("SigningKey({})", key.public.id())
    );
}

proptest! {
    #[test]
    fn parsers_take_any_text(text in "(untrusted comment: x\n)?[A-Za-z0-9+/=]{0,120}\n(trusted comment: )?.*\n[A-Za-z0-9+/=]{0,90}") {
        let _ = Signature::parse(&text);
        let _ = SigningKey::parse(&text, Some("password"));
        let _ = PublicKey::parse(&text);
    }
}
