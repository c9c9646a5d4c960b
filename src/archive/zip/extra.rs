//! The extra field of a header, cut into its parts.

use super::record::{EXTRA_UNICODE_PATH, LittleEndian, take_slice};
use super::rule::{Rule, Violation};

/// The parts of an extra field.
pub(super) struct ExtraFields<'a>(Vec<(u16, &'a [u8])>);

impl<'a> ExtraFields<'a> {
    pub(super) fn read(mut bytes: &'a [u8], entry: &str) -> Result<Self, Violation> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let Some(field) = Self::take(&mut bytes) else {
                let fault = format_args!("{} bytes of its extra field are cut", bytes.len());
                return Err(Violation::entry(Rule::ExtraField, entry, fault));
            };
            fields.push(field);
        }
        fields.sort_by_key(|(id, _)| *id);
        match fields.windows(2).find_map(|pair| {
            if let [(a, _), (b, _)] = pair {
                (a == b).then_some(*a)
            } else {
                None
            }
        }) {
            Some(id) => Err(Violation::entry(
                Rule::ExtraField,
                entry,
                format_args!("it has extra field {id:#06x} twice"),
            )),
            None => Ok(ExtraFields(fields)),
        }
    }

    fn take(bytes: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
        let mut rest = *bytes;
        let id = u16::take(&mut rest)?;
        let len = u16::take(&mut rest)?;
        let data = take_slice(&mut rest, len.into())?;
        *bytes = rest;
        Some((id, data))
    }

    /// Checks that no part gives the entry another name than its header does.
    pub(super) fn check_name(&self, name_bytes: &[u8], entry: &str) -> Result<(), Violation> {
        match self.get(EXTRA_UNICODE_PATH) {
            Some(unicode) if unicode.get(5..) != Some(name_bytes) => Err(Violation::entry(
                Rule::OneName,
                entry,
                "its Unicode path field holds another name",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn get(&self, id: u16) -> Option<&'a [u8]> {
        self.0
            .iter()
            .find(|(other, _)| *other == id)
            .map(|(_, data)| *data)
    }
}
