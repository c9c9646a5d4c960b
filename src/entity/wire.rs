//! Protobuf on the wire: a reader that borrows and a writer that appends, with groups, for messages
//! that are known by number.
//!
//! Knows tags, varints and lengths. Must not know any message of Datastore.
//! Nothing here recurses: a group's end is found with a bounded list of open groups.

use std::fmt;

/// Groups inside groups that a message may have. Entities have two.
const MAX_GROUP_DEPTH: usize = 32;

/// Bytes that are no protobuf message, or one with other types than expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {reason}")]
pub struct WireError {
    /// Where the field with the fault begins, in bytes from the record's start.
    pub offset: usize,
    /// What is wrong there.
    pub reason: WireFault,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum WireFault {
    /// The field ends after its message does.
    #[error("the message ends within a field")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("a varint has more than 64 bits")]
    VarintTooLong,
    /// A tag that names no field.
    #[error("a field number is not between 1 and 536870911")]
    FieldNumber,
    /// A wire type that does not exist.
    #[error("wire type {found} is unknown")]
    WireType {
        /// The three bits of the tag.
        found: u8,
    },
    /// A group that ends where none is open, or where another one is.
    #[error("group {found} ends without having begun")]
    GroupEnd {
        /// The group that ends.
        found: u32,
    },
    /// Groups nested deeper than any message of ours.
    #[error("groups are nested more than {MAX_GROUP_DEPTH} levels deep")]
    GroupsTooDeep,
    /// A known field of another type.
    #[error("field {field}: expected {expected}, found {found}")]
    FieldType {
        /// The field's number.
        field: u32,
        /// The type that belongs there.
        expected: WireType,
        /// The type that stands there.
        found: WireType,
    },
    /// A text that is not UTF-8.
    #[error("field {field} is not UTF-8")]
    NotText {
        /// The field's number.
        field: u32,
    },
}

/// How a field's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireType {
    /// A number of 1 to 10 bytes.
    Varint,
    /// Eight bytes.
    Fixed64,
    /// A length and so many bytes.
    Bytes,
    /// Fields between two tags.
    Group,
    /// Four bytes.
    Fixed32,
}

impl fmt::Display for WireType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WireType::Varint => "a varint",
            WireType::Fixed64 => "8 fixed bytes",
            WireType::Bytes => "bytes with a length",
            WireType::Group => "a group",
            WireType::Fixed32 => "4 fixed bytes",
        })
    }
}

/// The fields of one message or group, in order. Ends after the first error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    /// Where `rest` ends, counted from the start of the outermost message.
    end: usize,
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    pub number: u32,
    pub offset: usize,
    value: FieldValue<'a>,
}

#[derive(Clone, Copy, Debug)]
enum FieldValue<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Fields<'a>),
    Group(Fields<'a>),
    Fixed32,
}

impl<'a> Fields<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Fields {
            rest: message,
            end: message.len(),
        }
    }

    /// What has not been read yet, as it stands.
    pub fn bytes(&self) -> &'a [u8] {
        self.rest
    }

    /// Where the next field begins, counted from the start of the outermost message.
    pub fn offset(&self) -> usize {
        self.end - self.rest.len()
    }

    /// Cuts off the next `len` bytes.
    fn cut(&mut self, len: u64) -> Result<Fields<'a>, WireFault> {
        let (taken, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len))
            .ok_or(WireFault::Truncated)?;
        self.rest = rest;
        Ok(Fields {
            rest: taken,
            end: self.offset(),
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireFault> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(WireFault::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, WireFault> {
        match self.rest {
            [byte @ ..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, WireFault> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte, rest @ ..] = self.rest else {
                return Err(WireFault::Truncated);
            };
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            // The tenth byte has room for one bit.
            if shift == 63 && *byte > 1 {
                break;
            }
            if *byte < 0x80 {
                return Ok(number);
            }
        }
        Err(WireFault::VarintTooLong)
    }

    #[inline(always)]
    fn tag(&mut self) -> Result<(u32, u8), WireFault> {
        let tag = u32::try_from(self.varint()?).map_err(|_| WireFault::FieldNumber)?;
        match tag >> 3 {
            0 => Err(WireFault::FieldNumber),
            number => Ok((number, (tag & 7) as u8)),
        }
    }

    #[inline(always)]
    fn field(&mut self) -> Result<Field<'a>, WireFault> {
        let offset = self.offset();
        let (number, wire_type) = self.tag()?;
        let value = match wire_type {
            0 => FieldValue::Varint(self.varint()?),
            1 => FieldValue::Fixed64(self.array()?),
            2 => {
                let len = self.varint()?;
                FieldValue::Bytes(self.cut(len)?)
            }
            3 => FieldValue::Group(self.group(number)?),
            4 => return Err(WireFault::GroupEnd { found: number }),
            5 => {
                self.array::<4>()?;
                FieldValue::Fixed32
            }
            found => return Err(WireFault::WireType { found }),
        };
        Ok(Field {
            number,
            offset,
            value,
        })
    }

    /// Takes the fields of a group whose start tag has been read, up to its end tag.
    #[inline(never)]
    fn group(&mut self, number: u32) -> Result<Fields<'a>, WireFault> {
        let start = *self;
        let mut open = [number; MAX_GROUP_DEPTH];
        let mut depth = 1;
        loop {
            let body_end = self.offset();
            let (number, wire_type) = self.tag()?;
            match wire_type {
                0 => {
                    self.varint()?;
                }
                1 => {
                    self.array::<8>()?;
                }
                2 => {
                    let len = self.varint()?;
                    self.cut(len)?;
                }
                3 => {
                    *open.get_mut(depth).ok_or(WireFault::GroupsTooDeep)? = number;
                    depth += 1;
                }
                4 => {
                    depth -= 1;
                    if open.get(depth) != Some(&number) {
                        return Err(WireFault::GroupEnd { found: number });
                    }
                    if depth == 0 {
                        let mut body = start;
                        return body.cut((body_end - start.offset()) as u64);
                    }
                }
                5 => {
                    self.array::<4>()?;
                }
                found => return Err(WireFault::WireType { found }),
            }
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let offset = self.offset();
        Some(self.field().map_err(|reason| {
            *self = Fields {
                rest: &[],
                end: offset,
            };
            WireError { offset, reason }
        }))
    }
}

impl<'a> Field<'a> {
    #[cold]
    fn mistyped(&self, expected: WireType) -> WireError {
        let found = match self.value {
            FieldValue::Varint(_) => WireType::Varint,
            FieldValue::Fixed64(_) => WireType::Fixed64,
            FieldValue::Bytes(_) => WireType::Bytes,
            FieldValue::Group(_) => WireType::Group,
            FieldValue::Fixed32 => WireType::Fixed32,
        };
        WireError {
            offset: self.offset,
            reason: WireFault::FieldType {
                field: self.number,
                expected,
                found,
            },
        }
    }

    pub fn varint(&self) -> Result<u64, WireError> {
        match self.value {
            FieldValue::Varint(number) => Ok(number),
            _ => Err(self.mistyped(WireType::Varint)),
        }
    }

    pub fn signed(&self) -> Result<i64, WireError> {
        self.varint().map(u64::cast_signed)
    }

    pub fn double(&self) -> Result<f64, WireError> {
        match self.value {
            FieldValue::Fixed64(bytes) => Ok(f64::from_le_bytes(bytes)),
            _ => Err(self.mistyped(WireType::Fixed64)),
        }
    }

    pub fn bytes(&self) -> Result<Fields<'a>, WireError> {
        match self.value {
            FieldValue::Bytes(fields) => Ok(fields),
            _ => Err(self.mistyped(WireType::Bytes)),
        }
    }

    pub fn group(&self) -> Result<Fields<'a>, WireError> {
        match self.value {
            FieldValue::Group(fields) => Ok(fields),
            _ => Err(self.mistyped(WireType::Group)),
        }
    }

    pub fn text(&self) -> Result<&'a str, WireError> {
        let bytes = self.bytes()?.bytes();
        std::str::from_utf8(bytes).map_err(|_| WireError {
            offset: self.offset,
            reason: WireFault::NotText { field: self.number },
        })
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_tag(out: &mut Vec<u8>, field: u32, wire_type: u8) {
    put_varint(out, u64::from(field) << 3 | u64::from(wire_type));
}

pub(crate) fn put_uint(out: &mut Vec<u8>, field: u32, number: u64) {
    put_tag(out, field, 0);
    put_varint(out, number);
}

pub(crate) fn put_int(out: &mut Vec<u8>, field: u32, number: i64) {
    put_uint(out, field, number.cast_unsigned());
}

pub(crate) fn put_double(out: &mut Vec<u8>, field: u32, number: f64) {
    put_tag(out, field, 1);
    out.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_tag(out, field, 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a text, unless it is empty: then leaving it out means the same.
pub(crate) fn put_unless_empty(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        put_bytes(out, field, text.as_bytes());
    }
}

/// Appends a field that is a message; `body` appends its fields.
///
/// The length stands before the body but is known after it: it is written behind and turned to the
/// front.
pub(crate) fn put_message(out: &mut Vec<u8>, field: u32, body: impl FnOnce(&mut Vec<u8>)) {
    put_tag(out, field, 2);
    let start = out.len();
    body(out);
    let end = out.len();
    put_varint(out, (end - start) as u64);
    let prefix_len = out.len() - end;
    if let Some(message) = out.get_mut(start..) {
        message.rotate_right(prefix_len);
    }
}

pub(crate) fn put_group(out: &mut Vec<u8>, field: u32, body: impl FnOnce(&mut Vec<u8>)) {
    put_tag(out, field, 3);
    body(out);
    put_tag(out, field, 4);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(message: &[u8]) -> WireError {
        Fields::new(message).find_map(Result::err).unwrap()
    }

    #[test]
    fn invalid_message_is_refused_with_position() {
        let sound = [0x08, 0x01];
        let table: [(&[u8], WireFault); 11] = [
            (&[0x08], WireFault::Truncated),
            (&[0x08, 0x80], WireFault::Truncated),
            (&[0x0a, 0x02, 0x00], WireFault::Truncated),
            (
                &[
                    0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
                ],
                WireFault::Truncated,
            ),
            (&[0x09, 0, 0, 0], WireFault::Truncated),
            (&[0x0b, 0x08, 0x01], WireFault::Truncated),
            (
                &[
                    0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
                ],
                WireFault::VarintTooLong,
            ),
            (&[0x00, 0x01], WireFault::FieldNumber),
            (&[0x0e], WireFault::WireType { found: 6 }),
            (&[0x0c], WireFault::GroupEnd { found: 1 }),
            (&[0x0b, 0x14], WireFault::GroupEnd { found: 2 }),
        ];
        for (bytes, reason) in table {
            assert_eq!(
                fault(&[&sound, bytes].concat()),
                WireError { offset: 2, reason },
                "{bytes:x?}"
            );
        }
        assert_eq!(
            fault(&[0xff, 0xff, 0xff, 0xff, 0x7f]).reason,
            WireFault::FieldNumber
        );
    }

    #[test]
    fn nothing_follows_an_error() {
        assert_eq!(
            Fields::new(&[0x08, 0x01, 0x0e, 0x08, 0x01])
                .map(|field| field.is_ok())
                .collect::<Vec<_>>(),
            [true, false]
        );
    }

    #[test]
    fn groups_are_balanced_and_depth_is_bounded() {
        // Group 1 { group 1 { 2: 5 }, 3: "" } and a field after it.
        let bytes = [0x0b, 0x0b, 0x10, 0x05, 0x0c, 0x1a, 0x00, 0x0c, 0x08, 0x07];
        let fields: Vec<_> = Fields::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(
            (
                fields[0].group().unwrap().bytes(),
                fields[0].group().unwrap().offset()
            ),
            (&bytes[1..7], 1)
        );
        assert_eq!(fields[1].varint(), Ok(7));
        let nested = |depth: usize| [vec![0x0b; depth], vec![0x0c; depth]].concat();
        assert!(Fields::new(&nested(MAX_GROUP_DEPTH)).all(|field| field.is_ok()));
        for depth in [MAX_GROUP_DEPTH + 1, 10_000] {
            assert_eq!(fault(&nested(depth)).reason, WireFault::GroupsTooDeep);
        }
    }

    #[test]
    fn known_field_of_wrong_type_is_refused() {
        let field = Fields::new(&[0x08, 0x01]).next().unwrap().unwrap();
        assert!(field.bytes().is_err() && field.group().is_err() && field.double().is_err());
        assert_eq!(
            field.text().unwrap_err().to_string(),
            "byte 0: field 1: expected bytes with a length, found a varint"
        );
        let text = Fields::new(&[0x0a, 0x01, 0xff]).next().unwrap().unwrap();
        assert_eq!(
            text.text().unwrap_err().reason,
            WireFault::NotText { field: 1 }
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(number in any::<i64>(), double in any::<u64>(), text in "\\PC{0,300}", field in 1..1_u32 << 29) {
            let mut out = Vec::new();
            put_int(&mut out, field, number);
            put_double(&mut out, field, f64::from_bits(double));
            put_message(&mut out, field, |out| put_bytes(out, field, text.as_bytes()));
            put_group(&mut out, field, |out| put_int(out, field, number));
            let fields: Vec<_> = Fields::new(&out).map(Result::unwrap).collect();
            prop_assert_eq!(fields.iter().map(|found| found.number).collect::<Vec<_>>(), vec![field; 4]);
            prop_assert_eq!(fields[0].signed(), Ok(number));
            prop_assert_eq!(fields[1].double().unwrap().to_bits(), double);
            prop_assert_eq!(fields[2].bytes().unwrap().next().unwrap().unwrap().text(), Ok(text.as_str()));
            prop_assert_eq!(fields[3].group().unwrap().next().unwrap().unwrap().signed(), Ok(number));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(Fields::new(&bytes).count() <= 100);
        }
    }
}
