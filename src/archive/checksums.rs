//! `SHA256SUMS` and sidecars, in the form that `sha256sum -c` reads.

use hmac::{Hmac, KeyInit as _, Mac as _};

use crate::model::{Manifest, Sha256};

/// The attribute of an archive's object that holds its SHA-256.
pub const SHA256_ATTRIBUTE: &str = "kindpack-sha256";

/// The attribute of an encrypted archive's object, and the word in its sidecar, that holds its
/// contents mark.
pub const CONTENTS_ATTRIBUTE: &str = "kindpack-contents";

/// A mark by which the same pack, run again, recognises its encrypted archive. It differs for
/// each encryption, and says nothing to others.
pub fn contents_mark(encrypted: &Sha256, contents: &Sha256) -> Sha256 {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&encrypted.0).expect("any key length fits");
    mac.update(&contents.0);
    Sha256(mac.finalize().into_bytes().into())
}

/// The comment line of a contents mark.
pub fn mark_line(mark: &Sha256) -> String {
    format!("# {CONTENTS_ATTRIBUTE} {mark}\n")
}

/// The contents mark in the comments of a sidecar.
pub fn parse_mark(text: &str) -> Option<Sha256> {
    let mut comments = text.lines().filter_map(|line| line.strip_prefix("# "));
    let mark = comments.find_map(|line| line.strip_prefix(CONTENTS_ATTRIBUTE))?;
    mark.trim().parse().ok()
}

/// One line: the digest, two spaces, the name. Names with a backslash or a line break are escaped
/// as `sha256sum` does.
pub fn line(sha256: &Sha256, name: &str) -> String {
    if name.contains(['\\', '\n', '\r']) {
        let escaped = name
            .replace('\\', "\\\\")
            .replace('\n', "\\n")
            .replace('\r', "\\r");
        format!("\\{sha256}  {escaped}\n")
    } else {
        format!("{sha256}  {name}\n")
    }
}

/// The lines of all objects of an archive, in the order of the manifest.
pub fn from_entries(manifest: &Manifest) -> String {
    manifest
        .objects()
        .iter()
        .map(|entry| line(&entry.sha256, &entry.name))
        .collect()
}

/// The digest and the name on the first line that is no comment.
pub fn parse_first(text: &str) -> Option<(Sha256, String)> {
    let line = text
        .lines()
        .find(|line| !line.starts_with('#') && !line.is_empty())?;
    let (escaped, line) = line
        .strip_prefix('\\')
        .map_or((false, line), |line| (true, line));
    let (digest, name) = line.split_at_checked(64)?;
    let name = name
        .strip_prefix("  ")
        .or_else(|| name.strip_prefix(" *"))?;
    let name = if escaped {
        unescape(name)?
    } else {
        name.to_owned()
    };
    Some((digest.parse().ok()?, name))
}

fn unescape(name: &str) -> Option<String> {
    let mut chars = name.chars();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_whatever_the_name_holds() {
        let sha256 = Sha256([7; 32]);
        for name in ["set.zip", "a b", "back\\slash", "line\nbreak\r", " lead"] {
            assert_eq!(
                parse_first(&line(&sha256, name)),
                Some((sha256, name.to_owned())),
                "{name:?}"
            );
        }
        assert_eq!(parse_first("# only a comment\n"), None);
        assert_eq!(parse_first("abc  x\n"), None);
    }

    #[test]
    fn first_line_is_found_as_sha256sum_writes_it() {
        let digest = "07".repeat(32);
        let found = |text: &str| parse_first(text).map(|(_, name)| name);
        let binary = format!("# a comment\n\n{digest} *set.zip\n{digest}  other\n");
        assert_eq!(found(&binary).as_deref(), Some("set.zip"));
        assert_eq!(
            found(&format!("\\{digest}  a\\\\b\\nc\\rd")).as_deref(),
            Some("a\\b\nc\rd")
        );
        for wrong in ["", "  ", " set.zip", "set.zip"] {
            assert_eq!(
                found(&format!("{digest}{wrong}")),
                (wrong == "  ").then(String::new)
            );
        }
        for wrong in ["\\t", "\\"] {
            assert_eq!(found(&format!("\\{digest}  a{wrong}")), None);
        }
        assert_eq!(found(&format!("{}g  x", &digest[1..])), None);
    }

    #[test]
    fn each_object_of_a_manifest_has_its_line() {
        let golden = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/managed.manifest.json"
        );
        let golden = std::fs::read_to_string(golden).unwrap();
        let manifest: Manifest = serde_json::from_str(&golden).unwrap();
        let lines = from_entries(&manifest);
        let found: Vec<_> = lines.lines().map(parse_first).collect();
        let objects = manifest.objects();
        let expected = objects
            .iter()
            .map(|entry| Some((entry.sha256, entry.name.clone())));
        assert!(!found.is_empty() && found.into_iter().eq(expected));
    }

    #[test]
    fn contents_mark_depends_on_both_digests() {
        let [one, other] = [1, 2].map(|byte| Sha256([byte; 32]));
        let mark = contents_mark(&one, &other);
        assert_eq!(mark, contents_mark(&one, &other));
        for different in [
            contents_mark(&other, &one),
            contents_mark(&one, &one),
            contents_mark(&other, &other),
        ] {
            assert_ne!(mark, different);
        }
        let sidecar = format!(
            "# another comment\n{}{}",
            mark_line(&mark),
            line(&one, "set.zip.age")
        );
        assert_eq!(parse_mark(&sidecar), Some(mark));
        assert_eq!(parse_first(&sidecar), Some((one, "set.zip.age".to_owned())));
        assert_eq!(parse_mark(&line(&one, "set.zip")), None);
    }
}
