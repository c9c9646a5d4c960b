use proptest::prelude::*;

use super::directory::*;
use super::end::*;
use super::record::*;
use super::testing::*;
use super::*;
use crate::archive::deflate::Inflater;

fn small_archive() -> Sealed {
    seal(&[
        ("exports/stored", Form::Stored, b"bytes as they are"),
        (
            "exports/known",
            Form::Known,
            b"some bytes, more than a piece of them, so that there are two: 0123456789 abcdefgh",
        ),
        (
            "exports/Größe",
            Form::Streamed,
            b"bytes whose length comes behind them",
        ),
        ("empty", Form::Known, b""),
        ("manifest.json", Form::Known, b"{}\n"),
    ])
}

#[test]
fn flipped_bits_are_refused_or_harmless() {
    let sealed = small_archive();
    let mut inflater = Inflater::default();
    let whole = read_sealed(&sealed.bytes, &sealed.pieces, &mut inflater).unwrap();
    let entries = read_structure(&sealed.bytes, Strictness::OwnFormat).unwrap();
    let mut archive = sealed.bytes.clone();
    let mut harmless = Vec::new();
    for bit in 0..archive.len() * 8 {
        archive[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = read_sealed(&archive, &sealed.pieces, &mut inflater) {
            assert_eq!(read, whole, "bit {bit}");
            harmless.push(bit);
        }
        archive[bit / 8] ^= 1 << (bit % 8);
    }
    // Up to the bytes of a stored block, and a sync flush is one, deflate leaves up to seven bits
    // unread: no reader can see them, only the archive's digest does. What is too short to be
    // deflated is such a block from its begin on.
    let mut padding = 0..0;
    for (entry, data_offset) in &entries {
        let mut end = *data_offset as usize;
        for (compressed_len, _) in &sealed.pieces[&entry.name] {
            let begin = end;
            end += compressed_len;
            padding = (end - 5) * 8..(end - 4) * 8;
            let is_stored = archive[begin] & 7 == 0;
            harmless.retain(|bit| !(padding.contains(bit) || is_stored && bit / 8 == begin));
        }
    }
    assert!(padding.end > 0 && harmless.is_empty(), "{harmless:?}");
}

#[test]
fn every_cut_archive_is_refused() {
    let sealed = small_archive();
    for cut in 0..sealed.bytes.len() {
        let refused = read_structure(&sealed.bytes[..cut], Strictness::AnyZip).unwrap_err();
        assert_eq!(refused.rule, Rule::EndRecord, "cut after {cut}");
        assert!(
            read_structure(&sealed.bytes[cut + 1..], Strictness::AnyZip).is_err(),
            "without the first {}",
            cut + 1
        );
    }
}

#[test]
fn bytes_before_or_behind_an_archive_are_refused() {
    let sealed = small_archive().bytes;
    for profile in [Strictness::OwnFormat, Strictness::AnyZip] {
        for added in [&b"\0"[..], b"#!/bin/sh\n", b"PK\x03\x04"] {
            assert_eq!(
                read_structure(&[added, &sealed].concat(), profile)
                    .unwrap_err()
                    .rule,
                Rule::DirectoryPlace
            );
            assert_eq!(
                read_structure(&[&sealed, added].concat(), profile)
                    .unwrap_err()
                    .rule,
                Rule::EndRecord
            );
        }
        // Twice the same archive: the second is found, and it does not begin at 0.
        assert!(read_structure(&[&*sealed, &*sealed].concat(), profile).is_err());
    }
}

#[test]
fn another_tail_than_was_asked_for_is_refused() {
    let sealed = small_archive().bytes;
    let len = sealed.len() as u64;
    assert_eq!(
        locate(&sealed[1..], len, Strictness::OwnFormat)
            .unwrap_err()
            .rule,
        Rule::EndRecord
    );
    assert_eq!(
        locate(&sealed, len + 1, Strictness::OwnFormat)
            .unwrap_err()
            .rule,
        Rule::EndRecord
    );
    let place = locate(&sealed, len, Strictness::OwnFormat).unwrap();
    let directory = place.in_tail(&sealed, len).unwrap();
    assert_eq!(
        parse_directory(&directory[1..], &place, Strictness::OwnFormat)
            .unwrap_err()
            .rule,
        Rule::DirectoryLen
    );
    assert_eq!(
        (tail_len(0), tail_len(100), tail_len(u64::MAX)),
        (0, 100, 65_633)
    );
}

/// An entry and an archive of such, every field of which can be made wrong.
#[derive(Clone)]
struct Raw {
    before: Vec<u8>,
    local: LocalRecord,
    local_name: Vec<u8>,
    local_extra: Vec<u8>,
    data: Vec<u8>,
    descriptor: Vec<u8>,
    central: CentralRecord,
    name: Vec<u8>,
    extra: Vec<u8>,
    comment: Vec<u8>,
    /// Added to the offset that the directory gives.
    shift: i64,
}

fn raw_entries() -> Vec<Raw> {
    let sealed = small_archive().bytes;
    let read = read_structure(&sealed, Strictness::OwnFormat).unwrap();
    let mut directory = &sealed[read.last().unwrap().0.end_offset as usize..];
    let mut raws = Vec::new();
    for (entry, data_offset) in read {
        let header = DirectoryHeader::take(&mut directory).unwrap();
        let mut rest = &sealed[entry.header_offset as usize..data_offset as usize];
        let local = LocalRecord::take(&mut rest).unwrap();
        let (local_name, local_extra) = rest.split_at(local.name_len.into());
        let data_end = data_offset + entry.compressed_len;
        raws.push(Raw {
            before: Vec::new(),
            local,
            local_name: local_name.to_vec(),
            local_extra: local_extra.to_vec(),
            data: range(&sealed, data_offset, entry.compressed_len).to_vec(),
            descriptor: range(&sealed, data_end, entry.end_offset - data_end).to_vec(),
            central: header.record,
            name: header.name.to_vec(),
            extra: header.extra.to_vec(),
            comment: Vec::new(),
            shift: 0,
        });
    }
    raws
}

fn assemble(raws: &[Raw], edit_end: impl FnOnce(&mut EndRecord)) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for raw in raws {
        archive.extend_from_slice(&raw.before);
        let header_offset = (archive.len() as i64 + raw.shift) as u32;
        LocalRecord {
            name_len: raw.local_name.len() as u16,
            extra_len: raw.local_extra.len() as u16,
            ..raw.local
        }
        .write(&mut archive);
        for part in [
            &raw.local_name,
            &raw.local_extra,
            &raw.data,
            &raw.descriptor,
        ] {
            archive.extend_from_slice(part);
        }
        let lens = (
            raw.name.len() as u16,
            raw.extra.len() as u16,
            raw.comment.len() as u16,
        );
        CentralRecord {
            name_len: lens.0,
            extra_len: lens.1,
            comment_len: lens.2,
            header_offset,
            ..raw.central
        }
        .write(&mut directory);
        for part in [&raw.name, &raw.extra, &raw.comment] {
            directory.extend_from_slice(part);
        }
    }
    let entries = raws.len() as u16;
    let (directory_len, directory_offset) = (directory.len() as u32, archive.len() as u32);
    let mut end = EndRecord {
        disk: 0,
        directory_disk: 0,
        entries_on_disk: entries,
        entries,
        directory_len,
        directory_offset,
        comment_len: 0,
    };
    edit_end(&mut end);
    archive.extend(directory);
    end.write(&mut archive);
    archive
}

/// Parts an archive from its end record.
fn without_end(mut archive: Vec<u8>) -> (Vec<u8>, EndRecord) {
    let end = archive.split_off(archive.len() - EndRecord::LEN);
    (archive, EndRecord::take(&mut end.as_slice()).unwrap())
}

fn rules(archive: &[u8]) -> [Option<Rule>; 2] {
    [Strictness::OwnFormat, Strictness::AnyZip].map(|profile| {
        read_structure(archive, profile)
            .err()
            .map(|violation| violation.rule)
    })
}

type EditEntry = fn(&mut Raw);
type EditEnd = fn(&mut EndRecord);
type EditWideEnd = fn(&mut WideEndRecord, &mut WideEndLocator, &mut EndRecord);

const STORED: usize = 0;
const KNOWN: usize = 1;
const STREAMED: usize = 2;

#[test]
fn the_parts_of_an_archive_make_the_archive() {
    assert_eq!(assemble(&raw_entries(), |_| {}), small_archive().bytes);
}

fn rename(raw: &mut Raw, name: &[u8]) {
    raw.name = name.to_vec();
    raw.local_name = name.to_vec();
}

/// Sets a field to the same in both headers.
macro_rules! both {
    ($raw:ident.$field:ident $op:tt $value:expr) => {{
        $raw.local.$field $op $value;
        $raw.central.$field $op $value;
    }};
}

#[test]
fn hostile_entry_edits_break_their_rules() {
    use Rule::*;
    // What, which entry, how, the rule for archives of kindpack, the rule for any zip.
    let deeds: &[(&str, usize, EditEntry, Rule, Option<Rule>)] = &[
        (
            "a name twice",
            KNOWN,
            |raw| rename(raw, b"exports/stored"),
            NameUnique,
            Some(NameUnique),
        ),
        (
            "a directory by a name that is taken",
            KNOWN,
            |raw| rename(raw, b"exports/stored/"),
            NameSegment,
            Some(FileType),
        ),
        (
            "a folder by the name of a file",
            KNOWN,
            |raw| rename(raw, b"exports/stored/x"),
            FileOrFolder,
            Some(FileOrFolder),
        ),
        (
            "a name for no file system",
            KNOWN,
            |raw| rename(raw, &[b'n'; 4_096]),
            PathLen,
            Some(PathLen),
        ),
        (
            "a way out",
            KNOWN,
            |raw| rename(raw, b"exports/../../x"),
            NameSegment,
            Some(NameSegment),
        ),
        (
            "an absolute name",
            KNOWN,
            |raw| rename(raw, b"/etc/passwd"),
            NameRelative,
            Some(NameRelative),
        ),
        (
            "a control character",
            KNOWN,
            |raw| rename(raw, b"a\nb"),
            NameControl,
            Some(NameControl),
        ),
        (
            "no name",
            KNOWN,
            |raw| rename(raw, b""),
            NameLen,
            Some(NameLen),
        ),
        (
            "UTF-8 that is none",
            STREAMED,
            |raw| rename(raw, b"\xff\xfe"),
            NameUtf8,
            Some(NameUtf8),
        ),
        (
            "a name in an old code page",
            KNOWN,
            |raw| rename(raw, b"caf\x82"),
            AsSealed,
            None,
        ),
        (
            "UTF-8 without its flag",
            STREAMED,
            |raw| both!(raw.flags &= !FLAG_UTF8),
            AsSealed,
            None,
        ),
        (
            "the flag of UTF-8 without need",
            KNOWN,
            |raw| both!(raw.flags |= FLAG_UTF8),
            AsSealed,
            None,
        ),
        (
            "a second name",
            KNOWN,
            |raw| raw.extra.extend(b"up\x06\x00\x01\0\0\0\0x"),
            OneName,
            Some(OneName),
        ),
        (
            "its own name once more",
            KNOWN,
            |raw| {
                raw.extra.extend(b"up\x12\x00\x01\0\0\0\0");
                raw.extra.extend_from_slice(&raw.name);
            },
            AsSealed,
            None,
        ),
        (
            "a second name in the local header",
            KNOWN,
            |raw| raw.local_extra.extend(b"up\x06\x00\x01\0\0\0\0x"),
            OneName,
            Some(OneName),
        ),
        (
            "encryption",
            KNOWN,
            |raw| both!(raw.flags |= 1),
            Flags,
            Some(Flags),
        ),
        (
            "strong encryption",
            KNOWN,
            |raw| both!(raw.flags |= 1 << 6),
            Flags,
            Some(Flags),
        ),
        (
            "masked headers",
            KNOWN,
            |raw| both!(raw.flags |= 1 << 13),
            Flags,
            Some(Flags),
        ),
        (
            "a level",
            KNOWN,
            |raw| both!(raw.flags |= 2),
            AsSealed,
            None,
        ),
        (
            "an unknown method",
            KNOWN,
            |raw| both!(raw.method = 12),
            Method,
            Some(Method),
        ),
        (
            "a descriptor behind a stored entry",
            STORED,
            |raw| both!(raw.flags |= FLAG_DESCRIPTOR),
            DescriptorUse,
            Some(DescriptorUse),
        ),
        (
            "two lengths of a stored entry",
            STORED,
            |raw| both!(raw.len += 1),
            StoredLen,
            Some(StoredLen),
        ),
        (
            "a symbolic link",
            STORED,
            |raw| raw.central.external_attributes = 0o120_777 << 16,
            FileType,
            Some(FileType),
        ),
        (
            "a device",
            STORED,
            |raw| raw.central.external_attributes = 0o020_644 << 16,
            FileType,
            Some(FileType),
        ),
        (
            "a directory's bits on a file",
            STORED,
            |raw| raw.central.external_attributes = 0o040_755 << 16,
            FileType,
            Some(FileType),
        ),
        (
            "the MS-DOS bit of a directory on a file",
            STORED,
            |raw| raw.central.external_attributes |= 0x10,
            FileType,
            Some(FileType),
        ),
        (
            "other rights",
            STORED,
            |raw| raw.central.external_attributes = 0o104_755 << 16,
            AsSealed,
            None,
        ),
        (
            "a file of MS-DOS",
            STORED,
            |raw| raw.central.external_attributes = 0x20,
            AsSealed,
            None,
        ),
        (
            "a directory of MS-DOS by a file's name",
            STORED,
            |raw| raw.central.external_attributes = 0x10,
            FileType,
            Some(FileType),
        ),
        (
            "a directory with content",
            STORED,
            |raw| {
                rename(raw, b"dir/");
                raw.central.external_attributes = 0o040_755 << 16;
            },
            NameSegment,
            Some(EmptyDirectory),
        ),
        (
            "stray bytes in the extra field",
            KNOWN,
            |raw| raw.extra.push(0),
            ExtraField,
            Some(ExtraField),
        ),
        (
            "an extra field that is too long",
            KNOWN,
            |raw| raw.extra.extend([1, 2, 9, 0]),
            ExtraField,
            Some(ExtraField),
        ),
        (
            "an extra field twice",
            KNOWN,
            |raw| raw.extra.extend_from_within(..),
            ExtraField,
            Some(ExtraField),
        ),
        (
            "stray bytes in the local extra field",
            KNOWN,
            |raw| raw.local_extra.push(0),
            ExtraField,
            Some(ExtraField),
        ),
        (
            "a foreign extra field",
            KNOWN,
            |raw| raw.extra.extend([0x75, 0x78, 0, 0]),
            AsSealed,
            None,
        ),
        (
            "a foreign local extra field",
            KNOWN,
            |raw| raw.local_extra.extend([0x75, 0x78, 0, 0]),
            AsSealed,
            None,
        ),
        (
            "a sentinel without ZIP64 field",
            KNOWN,
            |raw| raw.central.len = SENTINEL_32,
            Zip64Field,
            Some(Zip64Field),
        ),
        (
            "a ZIP64 field without sentinel",
            KNOWN,
            |raw| raw.extra.extend([1, 0, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
            Zip64Field,
            Some(Zip64Field),
        ),
        (
            "a local sentinel without ZIP64 field",
            KNOWN,
            |raw| raw.local.len = SENTINEL_32,
            Zip64Field,
            Some(Zip64Field),
        ),
        (
            "a local ZIP64 field that says otherwise",
            KNOWN,
            |raw| {
                raw.local_extra = [&[1, 0, 16, 0][..], &[9; 16]].concat();
            },
            Zip64Field,
            Some(Zip64Field),
        ),
        (
            "a local ZIP64 field with a length that needs none",
            KNOWN,
            |raw| {
                let lens = [raw.central.len, raw.central.compressed_len];
                let numbers = lens.map(|len| u64::from(len).to_le_bytes());
                raw.local_extra = [&[1, 0, 16, 0][..], &numbers.concat()].concat();
                raw.local.len = SENTINEL_32;
            },
            AsSealed,
            None,
        ),
        (
            "a local ZIP64 field with the one length that needs it",
            KNOWN,
            |raw| {
                let len = u64::from(raw.central.len).to_le_bytes();
                raw.local_extra = [&[1, 0, 8, 0][..], &len].concat();
                raw.local.len = SENTINEL_32;
            },
            AsSealed,
            None,
        ),
        (
            "another disk",
            KNOWN,
            |raw| raw.central.disk = 1,
            OneDisk,
            Some(OneDisk),
        ),
        (
            "another maker",
            KNOWN,
            |raw| raw.central.made_by = 0,
            AsSealed,
            None,
        ),
        (
            "a comment",
            KNOWN,
            |raw| raw.comment = b"comment".to_vec(),
            AsSealed,
            None,
        ),
        (
            "another local name",
            KNOWN,
            |raw| raw.local_name[0] = b'E',
            LocalName,
            Some(LocalName),
        ),
        (
            "a longer local name",
            KNOWN,
            |raw| raw.local_name.push(b'x'),
            LocalName,
            Some(LocalName),
        ),
        (
            "other local flags",
            KNOWN,
            |raw| raw.local.flags |= FLAG_UTF8,
            LocalAgrees,
            Some(LocalAgrees),
        ),
        (
            "another local method",
            KNOWN,
            |raw| raw.local.method = 0,
            LocalAgrees,
            Some(LocalAgrees),
        ),
        (
            "another local time",
            KNOWN,
            |raw| raw.local.dos_time += 1,
            LocalAgrees,
            Some(LocalAgrees),
        ),
        (
            "another local checksum",
            KNOWN,
            |raw| raw.local.crc32 ^= 1,
            LocalAgrees,
            Some(LocalAgrees),
        ),
        (
            "another local length",
            KNOWN,
            |raw| raw.local.len += 1,
            LocalAgrees,
            Some(LocalAgrees),
        ),
        (
            "another local compressed length",
            KNOWN,
            |raw| raw.local.compressed_len -= 1,
            LocalAgrees,
            Some(LocalAgrees),
        ),
        (
            "no local length",
            KNOWN,
            |raw| raw.local.len = 0,
            LocalAgrees,
            Some(LocalAgrees),
        ),
        (
            "a local length before a descriptor",
            STREAMED,
            |raw| raw.local.len = raw.central.len,
            AsSealed,
            None,
        ),
        (
            "a wrong local length before a descriptor",
            STREAMED,
            |raw| raw.local.len = 1,
            LocalAgrees,
            Some(LocalAgrees),
        ),
        (
            "another local version",
            KNOWN,
            |raw| raw.local.version_needed = 10,
            AsSealed,
            None,
        ),
        (
            "a gap before an entry",
            KNOWN,
            |raw| raw.before = vec![0],
            NoGap,
            Some(NoGap),
        ),
        (
            "a gap before the first entry",
            STORED,
            |raw| raw.before = vec![0],
            NoGap,
            Some(NoGap),
        ),
        (
            "a gap behind the data",
            KNOWN,
            |raw| raw.data.push(0),
            NoGap,
            Some(NoGap),
        ),
        (
            "data that reach into the next entry",
            KNOWN,
            |raw| both!(raw.compressed_len += 30),
            NoOverlap,
            Some(NoOverlap),
        ),
        (
            "a local extra field that takes room from the data",
            KNOWN,
            |raw| {
                raw.local_extra.extend([9, 9, 4, 0, 0, 0, 0, 0]);
                raw.data.truncate(raw.data.len() - 8);
            },
            NoOverlap,
            Some(NoOverlap),
        ),
        (
            "an offset into its own header",
            KNOWN,
            |raw| raw.shift = 1,
            NoGap,
            Some(NoGap),
        ),
        (
            "an offset far behind",
            KNOWN,
            |raw| raw.shift = 1 << 20,
            EntryOrder,
            Some(NoOverlap),
        ),
        (
            "a descriptor that is too long",
            STREAMED,
            |raw| raw.descriptor.push(0),
            NoGap,
            Some(NoGap),
        ),
        (
            "a descriptor that is too short",
            STREAMED,
            |raw| _ = raw.descriptor.pop(),
            NoOverlap,
            Some(NoGap),
        ),
        (
            "no descriptor",
            STREAMED,
            |raw| raw.descriptor.clear(),
            NoOverlap,
            Some(NoOverlap),
        ),
        (
            "a descriptor without signature",
            STREAMED,
            |raw| _ = raw.descriptor.drain(..4),
            NoOverlap,
            None,
        ),
        (
            "another checksum in the descriptor",
            STREAMED,
            |raw| raw.descriptor[4] ^= 1,
            Descriptor,
            Some(Descriptor),
        ),
        (
            "another length in the descriptor",
            STREAMED,
            |raw| raw.descriptor[12] ^= 1,
            Descriptor,
            Some(Descriptor),
        ),
        (
            "another compressed length in the descriptor",
            STREAMED,
            |raw| raw.descriptor[8] ^= 1,
            Descriptor,
            Some(Descriptor),
        ),
        (
            "another signature of the descriptor",
            STREAMED,
            |raw| raw.descriptor[0] ^= 1,
            Descriptor,
            Some(Descriptor),
        ),
        (
            "64-bit lengths in the descriptor",
            STREAMED,
            |raw| {
                raw.descriptor = headers::descriptor(
                    raw.central.crc32,
                    raw.central.compressed_len.into(),
                    raw.central.len.into(),
                    true,
                );
            },
            NoGap,
            Some(NoGap),
        ),
    ];
    for (what, place, edit, sealed, any_zip) in deeds {
        let mut raws = raw_entries();
        edit(&mut raws[*place]);
        assert_eq!(
            rules(&assemble(&raws, |_| {})),
            [Some(*sealed), *any_zip],
            "{what}"
        );
    }
}

#[test]
fn two_entries_must_not_share_their_bytes() {
    let read = read_structure(&small_archive().bytes, Strictness::OwnFormat).unwrap();
    let offset = |place: usize| read[place].0.header_offset as i64;
    let mut raws = raw_entries();
    raws[STREAMED] = Raw {
        name: b"another name".to_vec(),
        shift: offset(KNOWN) - offset(STREAMED),
        ..raws[KNOWN].clone()
    };
    assert_eq!(rules(&assemble(&raws, |_| {})), [Some(Rule::NoOverlap); 2]);
}

#[test]
fn own_archives_refuse_backslashes_and_drives() {
    for (name, rule) in [
        (r"exports/a\b", Rule::NameBackslash),
        ("C:", Rule::NameRelative),
    ] {
        let mut raws = raw_entries();
        rename(&mut raws[KNOWN], name.as_bytes());
        assert_eq!(rules(&assemble(&raws, |_| {})), [None, Some(rule)]);
    }
}

#[test]
fn hostile_end_edits_break_their_rules() {
    use Rule::*;
    let deeds: &[(&str, EditEnd, Rule)] = &[
        ("another disk", |end| end.disk = 1, OneDisk),
        (
            "a directory on another disk",
            |end| end.directory_disk = 1,
            OneDisk,
        ),
        (
            "fewer entries on this disk",
            |end| end.entries_on_disk -= 1,
            OneDisk,
        ),
        (
            "fewer entries than headers",
            |end| (end.entries, end.entries_on_disk) = (4, 4),
            DirectoryHeader,
        ),
        (
            "more entries than headers",
            |end| (end.entries, end.entries_on_disk) = (6, 6),
            DirectoryHeader,
        ),
        (
            "more entries than room",
            |end| (end.entries, end.entries_on_disk) = (99, 99),
            DirectoryLen,
        ),
        (
            "a shorter directory",
            |end| end.directory_len -= 1,
            DirectoryPlace,
        ),
        (
            "another offset",
            |end| end.directory_offset -= 1,
            DirectoryPlace,
        ),
        (
            "a sentinel for the count",
            |end| (end.entries, end.entries_on_disk) = (SENTINEL_16, SENTINEL_16),
            Zip64End,
        ),
        (
            "a sentinel for the length",
            |end| end.directory_len = SENTINEL_32,
            Zip64End,
        ),
        (
            "a sentinel for the offset",
            |end| end.directory_offset = SENTINEL_32,
            Zip64End,
        ),
        (
            "a comment that is not there",
            |end| end.comment_len = 1,
            EndRecord,
        ),
        (
            "a directory that begins later",
            |end| {
                end.directory_offset += 46;
                end.directory_len -= 46;
            },
            DirectoryHeader,
        ),
        (
            "a directory that begins with an entry",
            |end| {
                end.directory_len += end.directory_offset;
                end.directory_offset = 0;
            },
            DirectoryHeader,
        ),
    ];
    for (what, edit, rule) in deeds {
        assert_eq!(
            rules(&assemble(&raw_entries(), edit)),
            [Some(*rule); 2],
            "{what}"
        );
    }
}

#[test]
fn comment_cannot_hide_a_second_end() {
    let commented = |comment: &[u8]| {
        let mut archive = assemble(&raw_entries(), |end| end.comment_len = comment.len() as u16);
        archive.extend_from_slice(comment);
        archive
    };
    assert_eq!(
        rules(&commented(b"made by hand")),
        [Some(Rule::NoComment), None]
    );
    assert_eq!(
        rules(&commented(&[b'x'; 65_535])),
        [Some(Rule::NoComment), None]
    );
    let other = small_archive().bytes;
    assert_eq!(rules(&commented(&other)), [Some(Rule::OneEndRecord); 2]);
    // A signature alone, or a record that does not end at the end, is no second end.
    assert_eq!(
        rules(&commented(b"PK\x05\x06")),
        [Some(Rule::NoComment), None]
    );
    assert_eq!(
        rules(&commented(&[&other[..], b"x"].concat())),
        [Some(Rule::NoComment), None]
    );
}

#[test]
fn foreign_zips_may_reorder_entries() {
    let mut archive = assemble(&raw_entries(), |_| {});
    let read = read_structure(&archive, Strictness::OwnFormat).unwrap();
    let directory_offset = read.last().unwrap().0.end_offset as usize;
    let mut directory = &archive[directory_offset..];
    let first = CentralRecord::LEN
        + DirectoryHeader::take(&mut directory)
            .map(|header| header.name.len() + header.extra.len())
            .unwrap();
    let end = archive.len() - EndRecord::LEN;
    archive[directory_offset..end].rotate_left(first);
    assert_eq!(rules(&archive), [Some(Rule::EntryOrder), None]);
    assert_eq!(
        read_structure(&archive, Strictness::AnyZip).unwrap()[4].0,
        read[0].0
    );
}

#[test]
fn hostile_zip64_end_edits_break_their_rules() {
    use Rule::*;
    let deeds: &[(&str, EditWideEnd, Option<Rule>)] = &[
        ("nothing", |_, _, _| {}, None),
        (
            "what the end record can say too",
            |wide, _, end| end.directory_len = wide.directory_len as u32,
            None,
        ),
        (
            "a locator that points elsewhere",
            |_, locator, _| locator.offset -= 1,
            Some(Zip64End),
        ),
        (
            "a locator that points behind",
            |_, locator, _| locator.offset = u64::MAX,
            Some(Zip64End),
        ),
        (
            "a longer record",
            |wide, _, _| wide.len_after_this += 1,
            Some(Zip64End),
        ),
        (
            "several disks",
            |_, locator, _| locator.disks = 2,
            Some(OneDisk),
        ),
        ("another disk", |wide, _, _| wide.disk = 1, Some(OneDisk)),
        (
            "fewer entries on this disk",
            |wide, _, _| wide.entries_on_disk -= 1,
            Some(OneDisk),
        ),
        (
            "another count in the end record",
            |_, _, end| end.entries = 4,
            Some(Zip64End),
        ),
        (
            "another length in the end record",
            |_, _, end| end.directory_len = 1,
            Some(Zip64End),
        ),
        (
            "another offset in the end record",
            |_, _, end| end.directory_offset = 1,
            Some(Zip64End),
        ),
        (
            "another disk in the end record",
            |_, _, end| end.disk = 1,
            Some(Zip64End),
        ),
        (
            "endless entries",
            |wide, _, _| (wide.entries, wide.entries_on_disk) = (u64::MAX, u64::MAX),
            Some(DirectoryLen),
        ),
        (
            "an endless directory",
            |wide, _, _| wide.directory_len = u64::MAX,
            Some(DirectoryPlace),
        ),
        (
            "a directory at the end of all numbers",
            |wide, _, _| wide.directory_offset = u64::MAX,
            Some(DirectoryPlace),
        ),
    ];
    for (what, edit, rule) in deeds {
        let (mut archive, mut end) = without_end(small_archive().bytes);
        let record_offset = archive.len() as u64;
        let mut wide = WideEndRecord {
            len_after_this: WIDE_END_LEN_AFTER,
            made_by: 45,
            version_needed: 45,
            disk: 0,
            directory_disk: 0,
            entries_on_disk: end.entries.into(),
            entries: end.entries.into(),
            directory_len: end.directory_len.into(),
            directory_offset: end.directory_offset.into(),
        };
        let mut locator = WideEndLocator {
            disk: 0,
            offset: record_offset,
            disks: 1,
        };
        (
            end.entries,
            end.entries_on_disk,
            end.directory_len,
            end.directory_offset,
        ) = (SENTINEL_16, SENTINEL_16, SENTINEL_32, SENTINEL_32);
        edit(&mut wide, &mut locator, &mut end);
        wide.write(&mut archive);
        locator.write(&mut archive);
        end.write(&mut archive);
        // ZIP64 without need is nothing that kindpack writes.
        assert_eq!(
            rules(&archive),
            [Some(rule.unwrap_or(AsSealed)), *rule],
            "{what}"
        );
    }
}

#[test]
fn oversized_directory_is_refused_before_fetching() {
    let mut tail = vec![0; 65_633 - 98];
    let (offset, len) = (100_000, MAX_DIRECTORY_LEN_BYTES + 1);
    headers::write_end(offset, len, 70_000, &mut tail);
    assert_eq!(
        locate(&tail, offset + len + 98, Strictness::OwnFormat)
            .unwrap_err()
            .rule,
        Rule::DirectoryLen
    );
}

#[test]
fn gap_after_data_belongs_to_nothing() {
    let mut raws = raw_entries();
    raws[KNOWN].data.extend([0; 7]);
    let refused = read_structure(&assemble(&raws, |_| {}), Strictness::AnyZip).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("7 bytes between its data and 219 belong to nothing"),
        "{text}"
    );
}

#[test]
fn largest_directory_may_be_fetched() {
    let mut tail = vec![0; 65_633 - 98];
    let (offset, len) = (100_000, MAX_DIRECTORY_LEN_BYTES);
    headers::write_end(offset, len, 70_000, &mut tail);
    let place = locate(&tail, offset + len + 98, Strictness::OwnFormat).unwrap();
    assert_eq!(
        (place.offset, place.len, place.entries),
        (offset, len, 70_000)
    );
}

#[test]
fn data_begin_where_the_directory_says() {
    let read = read_structure(&small_archive().bytes, Strictness::OwnFormat).unwrap();
    for (mut entry, data_offset) in read {
        assert_eq!(entry.sealed_data_offset(), data_offset, "{}", entry.name);
        if entry.streamed {
            // The lengths in its descriptor then have 64 bits each.
            entry.len = u64::from(u32::MAX) + 1;
            assert_eq!(entry.sealed_data_offset(), data_offset - 8);
        }
    }
}

#[test]
fn directory_alone_leaves_room_for_a_descriptor() {
    let directory_of = |descriptor_len: usize| {
        let mut raws = raw_entries();
        raws[STREAMED].local_extra.clear();
        raws[STREAMED].descriptor.truncate(descriptor_len);
        let archive = assemble(&raws, |_| {});
        let len = archive.len() as u64;
        let place = locate(&archive, len, Strictness::AnyZip).unwrap();
        let directory = range(&archive, place.offset, place.len);
        parse_directory(directory, &place, Strictness::AnyZip).map_err(|violation| violation.rule)
    };
    assert_eq!(directory_of(11), Err(Rule::NoOverlap));
    assert!(directory_of(12).is_ok());
}

#[test]
fn time_field_counts_where_it_holds_the_time() {
    for (flags, expected) in [(1, "2001-09-09T01:46:40Z"), (2, MODIFIED)] {
        let mut raws = raw_entries();
        let field = [
            &b"UT\x05\x00"[..],
            &[flags],
            &1_000_000_000_u32.to_le_bytes(),
        ]
        .concat();
        raws[KNOWN].extra = field;
        let entries = read_structure(&assemble(&raws, |_| {}), Strictness::AnyZip).unwrap();
        assert_eq!(entries[KNOWN].0.modified, Some(time(expected)));
    }
}

#[test]
fn entry_header_range_is_bounded() {
    let (mut entry, _) = read_structure(&small_archive().bytes, Strictness::OwnFormat)
        .unwrap()
        .remove(KNOWN);
    assert!(entry.header_max_len() < 100);
    entry.end_offset = u64::MAX;
    assert_eq!(entry.header_max_len(), 131_100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_the_reader_crash(bytes in prop::collection::vec(any::<u8>(), 0..400), with_end in any::<bool>(), entries in 0..5_u16) {
        let mut archive = bytes;
        if with_end {
            let directory_offset = archive.len() as u32 / 2;
            let directory_len = archive.len() as u32 - directory_offset;
            EndRecord { disk: 0, directory_disk: 0, entries_on_disk: entries, entries, directory_len, directory_offset, comment_len: 0 }.write(&mut archive);
        }
        let _ = rules(&archive);
    }

    #[test]
    fn no_headers_make_the_reader_crash(numbers in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff)], 38), name in ".{0,9}", extra in prop::collection::vec(0..9_u8, 0..30)) {
        let mut directory = b"PK\x01\x02".to_vec();
        directory.extend(&numbers[..24]);
        directory.extend([name.len() as u8, 0, extra.len() as u8, 0, 0, 0]);
        directory.extend(&numbers[26..]);
        directory.extend(name.as_bytes());
        directory.extend(&extra);
        let place = DirectoryPlace { offset: 1 << 40, len: directory.len() as u64, entries: 1 };
        for profile in [Strictness::OwnFormat, Strictness::AnyZip] {
            if let Ok(entries) = parse_directory(&directory, &place, profile) {
                let _ = check_local_header(&entries[0], &numbers, profile);
                let _ = check_descriptor(&entries[0], &numbers[..16], profile);
            }
        }
    }

    #[test]
    fn tampered_archive_is_refused_or_identical(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let sealed = small_archive();
        let mut archive = sealed.bytes.clone();
        for (at, byte) in edits {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        let _ = rules(&archive);
        let mut inflater = Inflater::default();
        if let Ok(read) = read_sealed(&archive, &sealed.pieces, &mut inflater) {
            prop_assert_eq!(read, read_sealed(&sealed.bytes, &sealed.pieces, &mut inflater).unwrap());
        }
    }
}
