//! Encryption in the form of age: anybody who has a recipient encrypts, and only the owner of its
//! identity decrypts, any part of it alone.
//!
//! Knows bytes, not archives or stores. Identities are never printed, and nothing asks for a
//! passphrase.

use std::fmt;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use age::stream::StreamWriter;
use age::x25519::{Identity, Recipient};
use age::{DecryptError, Decryptor, Encryptor};
use bytes::Bytes;

/// What the name of an encrypted archive ends in.
pub const ENCRYPTED_SUFFIX: &str = ".age";

/// How an encrypted file begins.
pub const ENCRYPTED_MAGIC: &[u8] = b"age-encryption.org/";

/// Files of recipients and identities longer than this are none.
pub const MAX_KEYS_BYTES: u64 = 1 << 20;

/// No header is longer: some hundred recipients fit.
pub const MAX_HEADER_BYTES: u64 = 64 << 10;

/// How long a chunk is before and after it is encrypted.
const CHUNK_LEN_BYTES: u64 = 64 << 10;
const SEALED_CHUNK_LEN_BYTES: u64 = CHUNK_LEN_BYTES + 16;

/// Why recipients or identities cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum AgeKeyError {
    /// A recipient of another kind, or none.
    #[error("{0:?} is not an age recipient such as age1…, and no file")]
    NotARecipient(String),
    /// A line of a file that is no recipient. It is not shown: it may be a secret.
    #[error("line {0} is not an age recipient such as age1…")]
    NotARecipientLine(usize),
    /// A file without recipients.
    #[error("the file holds no age recipient")]
    NoRecipient,
    /// A line of a file that is no identity. It is not shown: it may be a secret.
    #[error("line {0} is not an age identity such as AGE-SECRET-KEY-1…")]
    NotAnIdentityLine(usize),
    /// A file without identities.
    #[error("the file holds no age identity")]
    NoIdentity,
    /// More recipients than a header holds.
    #[error("there are too many recipients for one archive")]
    TooManyRecipients,
}

/// Why something cannot be decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum DecryptionError {
    /// No identity is one of its recipients.
    #[error("it is encrypted for other identities")]
    WrongIdentity,
    /// A passphrase opens it, and no identity.
    #[error("it is encrypted with a passphrase")]
    Passphrase,
    /// It is not what an identity would open.
    #[error("{0}")]
    Damaged(String),
}

impl DecryptionError {
    fn damaged(reason: impl Into<String>) -> Self {
        DecryptionError::Damaged(reason.into())
    }
}

/// Who may decrypt an archive.
#[derive(Clone)]
pub struct Recipients(Arc<[Recipient]>);

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(ToString::to_string))
            .finish()
    }
}

impl Recipients {
    /// These recipients together.
    ///
    /// # Errors
    /// [`AgeKeyError::NoRecipient`], [`AgeKeyError::TooManyRecipients`].
    pub fn new(all: Vec<Recipient>) -> Result<Self, AgeKeyError> {
        if all.is_empty() {
            return Err(AgeKeyError::NoRecipient);
        }
        let recipients = Recipients(all.into());
        match ArchiveEncryptor::new(&recipients) {
            Ok(encryptor) if encryptor.buffer.len() <= MAX_HEADER_BYTES => Ok(recipients),
            _ => Err(AgeKeyError::TooManyRecipients),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Reads one recipient.
///
/// # Errors
/// [`AgeKeyError::NotARecipient`].
pub fn parse_recipient(text: &str) -> Result<Recipient, AgeKeyError> {
    text.parse()
        .map_err(|_| AgeKeyError::NotARecipient(text.to_owned()))
}

/// Reads a file of recipients: one a line, `#` begins a comment line.
///
/// # Errors
/// [`AgeKeyError::NotARecipientLine`], [`AgeKeyError::NoRecipient`].
pub fn parse_recipients(text: &str) -> Result<Vec<Recipient>, AgeKeyError> {
    let recipients: Vec<Recipient> = parse_lines(text, AgeKeyError::NotARecipientLine)?;
    match recipients.is_empty() {
        true => Err(AgeKeyError::NoRecipient),
        false => Ok(recipients),
    }
}

fn parse_lines<T: FromStr>(
    text: &str,
    fault: fn(usize) -> AgeKeyError,
) -> Result<Vec<T>, AgeKeyError> {
    let lines = text.lines().enumerate();
    let lines = lines.map(|(number, line)| (number + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| line.parse().map_err(|_| fault(number)))
        .collect()
}

/// Who decrypts.
#[derive(Clone)]
pub struct Identities(Arc<[Identity]>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

impl Identities {
    /// Reads files of identities, as `age-keygen` writes them.
    ///
    /// # Errors
    /// [`AgeKeyError::NotAnIdentityLine`], [`AgeKeyError::NoIdentity`].
    pub fn parse(text: &str) -> Result<Self, AgeKeyError> {
        let identities: Vec<Identity> = parse_lines(text, AgeKeyError::NotAnIdentityLine)?;
        match identities.is_empty() {
            true => Err(AgeKeyError::NoIdentity),
            false => Ok(Identities(identities.into())),
        }
    }

    /// These and those.
    pub fn and(&self, others: &Identities) -> Self {
        Identities(self.0.iter().chain(others.0.iter()).cloned().collect())
    }

    fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|identity| identity as &dyn age::Identity)
    }
}

/// Where the encrypted bytes gather until they are taken.
#[derive(Clone, Default)]
struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

impl SharedBuffer {
    fn take(&self) -> Bytes {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *bytes).into()
    }

    fn len(&self) -> u64 {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.len() as u64
    }
}

impl Write for SharedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Encrypts bytes as they come.
pub struct ArchiveEncryptor {
    stream: StreamWriter<SharedBuffer>,
    buffer: SharedBuffer,
}

impl ArchiveEncryptor {
    /// Begins with the header.
    ///
    /// # Errors
    /// What the system says where it gives no random numbers.
    pub fn new(recipients: &Recipients) -> io::Result<Self> {
        let all = recipients.0.iter();
        let all = all.map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(all).map_err(io::Error::other)?;
        let buffer = SharedBuffer::default();
        let stream = encryptor.wrap_output(buffer.clone())?;
        Ok(ArchiveEncryptor { stream, buffer })
    }

    /// Encrypts the next bytes; gives what is ready.
    ///
    /// # Errors
    /// None is known; the stream could give one.
    pub fn encrypt(&mut self, bytes: &[u8]) -> io::Result<Bytes> {
        self.stream.write_all(bytes)?;
        Ok(self.buffer.take())
    }

    /// Encrypts what is left, marked as the end.
    ///
    /// # Errors
    /// As [`ArchiveEncryptor::encrypt`].
    pub fn finish(self) -> io::Result<Bytes> {
        self.stream.finish()?;
        Ok(self.buffer.take())
    }
}

/// How many bytes encrypted ones may have, at most.
pub fn max_encrypted_len(len: u64) -> u64 {
    len.saturating_add(len >> 11)
        .saturating_add(MAX_HEADER_BYTES)
}

/// How an encrypted file begins, opened by an identity.
#[derive(Clone)]
pub struct EncryptedHeader {
    /// The header itself, and the nonce after it.
    bytes: Bytes,
    identities: Identities,
}

impl EncryptedHeader {
    /// Reads the header at the beginning of a file; none where more bytes are needed.
    ///
    /// # Errors
    /// [`DecryptionError`].
    pub fn parse(
        beginning: &Bytes,
        identities: &Identities,
    ) -> Result<Option<Self>, DecryptionError> {
        let mut cursor = Cursor::new(&beginning[..]);
        let decryptor = match Decryptor::new_buffered(&mut cursor) {
            Ok(decryptor) => decryptor,
            Err(DecryptError::Io(_)) => return Ok(None),
            Err(_) => return Err(DecryptionError::damaged("it does not begin as an age file")),
        };
        if decryptor.is_scrypt() {
            return Err(DecryptionError::Passphrase);
        }
        decryptor.decrypt(identities.iter()).map_err(header_fault)?;
        let len = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        Ok(Some(EncryptedHeader {
            bytes: beginning.slice(..len.min(beginning.len())),
            identities: identities.clone(),
        }))
    }
}

fn header_fault(error: DecryptError) -> DecryptionError {
    match error {
        DecryptError::NoMatchingKeys => DecryptionError::WrongIdentity,
        _ => DecryptionError::damaged("its header was changed"),
    }
}

/// An encrypted file of known length, of which any part can be decrypted.
#[derive(Clone)]
pub struct EncryptedFile {
    header: EncryptedHeader,
    /// How long it is, header and all.
    encrypted_len: u64,
    /// How many chunks there are.
    chunks: u64,
    /// The last chunk, which proves how long the file is.
    last_chunk: Bytes,
}

impl fmt::Debug for EncryptedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptedFile({} chunks)", self.chunks)
    }
}

/// Some bytes of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByteRange {
    /// Where they begin.
    pub offset: u64,
    /// How many they are.
    pub len: u64,
}

impl EncryptedFile {
    /// The file of a header. Its last chunk is still to be read; see [`EncryptedFile::last_range`].
    pub fn new(header: EncryptedHeader, encrypted_len: u64) -> Self {
        let body = encrypted_len.saturating_sub(header.bytes.len() as u64);
        EncryptedFile {
            header,
            encrypted_len,
            chunks: body.div_ceil(SEALED_CHUNK_LEN_BYTES),
            last_chunk: Bytes::new(),
        }
    }

    /// How long the file is once it is decrypted.
    pub fn decrypted_len(&self) -> u64 {
        let overhead = self.header.bytes.len() as u64 + 16 * self.chunks;
        self.encrypted_len.saturating_sub(overhead)
    }

    /// Where the last chunk is.
    pub fn last_range(&self) -> ByteRange {
        self.range_of(self.chunks.saturating_sub(1), self.chunks)
    }

    /// The encrypted bytes of these chunks.
    fn range_of(&self, first: u64, end: u64) -> ByteRange {
        let header = self.header.bytes.len() as u64;
        let place = |chunk: u64| {
            let place = header.saturating_add(chunk.saturating_mul(SEALED_CHUNK_LEN_BYTES));
            place.min(self.encrypted_len)
        };
        ByteRange {
            offset: place(first),
            len: place(end) - place(first),
        }
    }

    /// The encrypted bytes that hold a range of the decrypted file.
    pub fn range_for(&self, wanted: ByteRange) -> ByteRange {
        let end = wanted.offset.saturating_add(wanted.len);
        let first = wanted.offset / CHUNK_LEN_BYTES;
        self.range_of(first, end.div_ceil(CHUNK_LEN_BYTES))
    }

    /// Takes the last chunk, and checks that the file ends there.
    ///
    /// # Errors
    /// [`DecryptionError::Damaged`] where it does not.
    pub fn with_last_chunk(mut self, last_chunk: Bytes) -> Result<Self, DecryptionError> {
        self.last_chunk = last_chunk;
        let cut = || DecryptionError::damaged("its end is damaged or cut off");
        let mut stream = self.stream(ByteRange::default(), Bytes::new())?;
        let len = stream.seek(SeekFrom::End(0)).map_err(|_| cut())?;
        match len == self.decrypted_len() {
            true => Ok(self),
            false => Err(cut()),
        }
    }

    /// Decrypts a range. `encrypted` are the bytes of [`EncryptedFile::range_for`] it.
    ///
    /// # Errors
    /// [`DecryptionError::Damaged`].
    pub fn decrypt(&self, wanted: ByteRange, encrypted: Bytes) -> Result<Bytes, DecryptionError> {
        let read = self.try_decrypt(wanted, encrypted.clone())?;
        read.map_err(|_| self.damaged_chunk(wanted, &encrypted))
    }

    fn try_decrypt(
        &self,
        wanted: ByteRange,
        encrypted: Bytes,
    ) -> Result<io::Result<Bytes>, DecryptionError> {
        let window = self.range_for(wanted);
        let mut stream = self.stream(window, encrypted)?;
        let len = usize::try_from(wanted.len).unwrap_or(usize::MAX);
        let mut decrypted = vec![0; len];
        let at = SeekFrom::Start(wanted.offset);
        let read = stream
            .seek(at)
            .and_then(|_| stream.read_exact(&mut decrypted));
        Ok(read.map(|()| decrypted.into()))
    }

    /// The error of a range of which a chunk does not decrypt. It names the first of those.
    fn damaged_chunk(&self, wanted: ByteRange, encrypted: &Bytes) -> DecryptionError {
        let end = wanted.offset.saturating_add(wanted.len);
        let (first, after) = (
            wanted.offset / CHUNK_LEN_BYTES,
            end.div_ceil(CHUNK_LEN_BYTES),
        );
        let is_damaged = |chunk: &u64| {
            let offset = chunk * CHUNK_LEN_BYTES;
            let len = CHUNK_LEN_BYTES.min(self.decrypted_len().saturating_sub(offset));
            let read = self.try_decrypt_of(ByteRange { offset, len }, wanted, encrypted);
            !matches!(read, Ok(Ok(_)))
        };
        let chunk = (first..after).find(is_damaged).unwrap_or(first);
        let ByteRange { offset, len } = self.range_of(chunk, chunk + 1);
        let last = offset + len.saturating_sub(1);
        DecryptionError::damaged(format!(
            "the chunk at bytes {offset} to {last} does not decrypt"
        ))
    }

    /// Decrypts one chunk of a range that was read as a whole.
    fn try_decrypt_of(
        &self,
        chunk: ByteRange,
        read: ByteRange,
        encrypted: &Bytes,
    ) -> Result<io::Result<Bytes>, DecryptionError> {
        let (window, part) = (self.range_for(read), self.range_for(chunk));
        let skipped = usize::try_from(part.offset - window.offset).unwrap_or(usize::MAX);
        let len = usize::try_from(part.len).unwrap_or(usize::MAX);
        let end = skipped.saturating_add(len).min(encrypted.len());
        self.try_decrypt(chunk, encrypted.slice(skipped.min(end)..end))
    }

    fn stream(
        &self,
        window: ByteRange,
        encrypted: Bytes,
    ) -> Result<age::stream::StreamReader<WindowReader>, DecryptionError> {
        let reader = WindowReader {
            parts: [
                (0, self.header.bytes.clone()),
                (window.offset, encrypted),
                (self.last_range().offset, self.last_chunk.clone()),
            ],
            len: self.encrypted_len,
            position: 0,
        };
        let decryptor = Decryptor::new(reader);
        let decryptor =
            decryptor.map_err(|_| DecryptionError::damaged("its header was changed"))?;
        let identities = self.header.identities.iter();
        decryptor.decrypt(identities).map_err(header_fault)
    }
}

/// A file of which some parts are in memory; the others are not read.
struct WindowReader {
    /// Where each part begins, and its bytes.
    parts: [(u64, Bytes); 3],
    len: u64,
    position: u64,
}

impl Read for WindowReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.len || buffer.is_empty() {
            return Ok(0);
        }
        let position = self.position;
        let rest = self.parts.iter().find_map(|(offset, bytes)| {
            let skipped = usize::try_from(position.checked_sub(*offset)?).ok()?;
            bytes.get(skipped..).filter(|rest| !rest.is_empty())
        });
        let mut rest = rest.ok_or(io::ErrorKind::UnexpectedEof)?;
        let len = rest.read(buffer)?;
        self.position += len as u64;
        Ok(len)
    }
}

impl Seek for WindowReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.len.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests;
