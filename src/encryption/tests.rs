use age::secrecy::ExposeSecret as _;
use proptest::prelude::*;

use super::*;

fn identity() -> (Identities, Recipients) {
    let identity = Identity::generate();
    let recipients = Recipients::new(vec![identity.to_public()]).unwrap();
    let text = identity.to_string();
    (Identities::parse(text.expose_secret()).unwrap(), recipients)
}

fn encrypt(recipients: &Recipients, bytes: &[u8]) -> Bytes {
    let mut encryptor = ArchiveEncryptor::new(recipients).unwrap();
    let mut out = encryptor.encrypt(bytes).unwrap().to_vec();
    out.extend(encryptor.finish().unwrap());
    out.into()
}

fn slice(bytes: &Bytes, range: ByteRange) -> Bytes {
    bytes.slice(range.offset as usize..(range.offset + range.len) as usize)
}

fn open(encrypted: &Bytes, identities: &Identities) -> Result<EncryptedFile, DecryptionError> {
    let header = EncryptedHeader::parse(encrypted, identities)?;
    let header = header.ok_or(DecryptionError::damaged("no header"))?;
    let file = EncryptedFile::new(header, encrypted.len() as u64);
    let last = slice(encrypted, file.last_range());
    file.with_last_chunk(last)
}

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_range_decrypts_alone(len in 0usize..300_000, offset in 0usize..300_000, wanted in 0usize..100_000) {
        let (identities, recipients) = identity();
        let plain = sample(len);
        let encrypted = encrypt(&recipients, &plain);
        let file = open(&encrypted, &identities).unwrap();
        prop_assert_eq!(file.decrypted_len(), len as u64);
        let offset = offset.min(len);
        let wanted = wanted.min(len - offset);
        let range = ByteRange { offset: offset as u64, len: wanted as u64 };
        let decrypted = file.decrypt(range, slice(&encrypted, file.range_for(range))).unwrap();
        prop_assert_eq!(&decrypted[..], &plain[offset..offset + wanted]);
    }

    #[test]
    fn parsers_take_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
        let (identities, _) = identity();
        let mut file = b"age-encryption.org/v1\n-> X25519 ".to_vec();
        file.extend(&bytes);
        let _ = open(&file.into(), &identities);
        let _ = open(&bytes.into(), &identities);
        let _ = parse_recipients(&text);
        let _ = Identities::parse(&text);
    }
}

#[test]
fn ranges_at_chunk_borders_decrypt() {
    let (identities, recipients) = identity();
    let chunk = CHUNK_LEN_BYTES as usize;
    for len in [0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 * chunk + 5] {
        let plain = sample(len);
        let encrypted = encrypt(&recipients, &plain);
        let file = open(&encrypted, &identities).unwrap();
        for offset in [0, chunk - 1, chunk, 2 * chunk]
            .into_iter()
            .filter(|at| *at <= len)
        {
            let range = ByteRange {
                offset: offset as u64,
                len: (len - offset) as u64,
            };
            let bytes = slice(&encrypted, file.range_for(range));
            let decrypted = file.decrypt(range, bytes).unwrap();
            assert!(decrypted[..] == plain[offset..], "{len} from {offset}");
        }
    }
}

#[test]
fn cut_file_is_damaged() {
    let (identities, recipients) = identity();
    let chunk = CHUNK_LEN_BYTES as usize;
    let encrypted = encrypt(&recipients, &sample(2 * chunk + 7));
    let header = encrypted.len() - (2 * chunk + 7) - 3 * 16;
    let sealed = SEALED_CHUNK_LEN_BYTES as usize;
    for len in [
        0,
        10,
        header,
        header + 5,
        header + sealed,
        header + 2 * sealed,
        encrypted.len() - 1,
    ] {
        let cut = open(&encrypted.slice(..len), &identities);
        assert!(matches!(cut, Err(DecryptionError::Damaged(_))), "{len}");
    }
}

#[test]
fn flipped_byte_is_damaged() {
    let (identities, recipients) = identity();
    let encrypted = encrypt(&recipients, &sample(100_000));
    for at in [0, 30, 100, 190, 300, 70_000, encrypted.len() - 1] {
        let mut flipped = encrypted.to_vec();
        flipped[at] ^= 1;
        let flipped = Bytes::from(flipped);
        let range = ByteRange {
            offset: 0,
            len: 100_000,
        };
        let read = open(&flipped, &identities)
            .and_then(|file| file.decrypt(range, slice(&flipped, file.range_for(range))));
        assert!(read.is_err(), "{at}");
    }
}

#[test]
fn damaged_chunk_is_named_by_its_place() {
    let (identities, recipients) = identity();
    let encrypted = encrypt(&recipients, &sample(200_000));
    let file = open(&encrypted, &identities).unwrap();
    let ByteRange { offset, len } = file.range_of(1, 2);
    let mut flipped = encrypted.to_vec();
    flipped[offset as usize + 9] ^= 1;
    let flipped = Bytes::from(flipped);
    let wanted = ByteRange {
        offset: 10,
        len: 199_000,
    };
    let error = file.decrypt(wanted, slice(&flipped, file.range_for(wanted)));
    let last = offset + len - 1;
    assert_eq!(
        error.unwrap_err().to_string(),
        format!("the chunk at bytes {offset} to {last} does not decrypt")
    );
}

#[test]
fn other_identity_is_told_apart() {
    let (_, recipients) = identity();
    let encrypted = encrypt(&recipients, b"secret");
    let opened = open(&encrypted, &identity().0);
    assert_eq!(opened.unwrap_err(), DecryptionError::WrongIdentity);
}

#[test]
fn faulty_key_files_name_the_line() {
    let secret = "AGE-SECRET-KEY-1NOTAKEY";
    let text = format!("# comment\n\n{secret}\n");
    let error = Identities::parse(&text).unwrap_err();
    assert_eq!(error, AgeKeyError::NotAnIdentityLine(3));
    assert!(!error.to_string().contains("NOTAKEY"));
    let error = parse_recipients(&text).unwrap_err();
    assert!(!error.to_string().contains("NOTAKEY"));
    assert_eq!(parse_recipients("# none\n"), Err(AgeKeyError::NoRecipient));
    assert_eq!(Identities::parse("").unwrap_err(), AgeKeyError::NoIdentity);
    let many = vec![Identity::generate().to_public(); 2000];
    let many = Recipients::new(many).unwrap_err();
    assert_eq!(many, AgeKeyError::TooManyRecipients);
}
