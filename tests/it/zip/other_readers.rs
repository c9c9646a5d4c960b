//! Other programs' opinion of the archives: Info-ZIP, Python, libarchive, 7-Zip and both of Java's
//! readers must see the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use kindpack::model::KindRef;

use crate::support::data::{Made, STARTED_MICROS, made, write_export};
use crate::support::fixtures::{fixture, legacy, managed};
use crate::support::{Running, TestDir, files_below, outside_program, sha256};

/// Archives of every shape, and the SHA-256 of each entry in them as packed.
struct Archives {
    desk: TestDir,
    archives: Vec<(&'static str, BTreeMap<String, String>)>,
    /// What could not be packed.
    failed: Vec<String>,
}

/// Packed once: all tests only read them.
static ARCHIVES: LazyLock<Archives> = LazyLock::new(|| {
    let desk = TestDir::kept("other-readers");
    // 18 MiB that cannot be deflated: more than is held back until its lengths are known, so a data
    // descriptor follows it. A kind that holds what people write in other scripts comes with it.
    let large: Vec<Vec<u8>> = made("demo-src", "", "Большой: kind", 18, 1_000_000)
        .iter()
        .map(Made::record)
        .collect();
    write_export(
        &desk.path("large"),
        &KindRef::new("", "Большой: kind"),
        STARTED_MICROS,
        &large,
        1,
    );
    let small: Vec<Vec<u8>> = made("demo-src", "acme", "Small % kind", 3, 10)
        .iter()
        .map(Made::record)
        .collect();
    write_export(
        &desk.path("large"),
        &KindRef::new("acme", "Small % kind"),
        STARTED_MICROS + 1_000_000,
        &small,
        2,
    );

    let empty = fixture("managed-variants/kind_without_entities");
    let sources: [(&str, &str, &[&str]); 6] = [
        ("managed.zip", &managed().source, &[]),
        ("legacy.zip", &legacy().source, &["--level", "9"]),
        ("stored.zip", &legacy().source, &["--method", "store"]),
        ("empty.zip", &empty, &[]),
        ("large.zip", "large", &["--level", "1"]),
        ("large-stored.zip", "large", &["--method", "store"]),
    ];
    let (mut archives, mut failed) = (Vec::new(), Vec::new());
    for (name, source, options) in sources {
        let args: Vec<&str> = ["pack", source, name]
            .iter()
            .chain(options)
            .copied()
            .collect();
        let run = desk.run(&args);
        if run.code != 0 {
            failed.push(format!("kindpack {}: {}", args.join(" "), run.brief()));
            continue;
        }
        let listed: serde_json::Value =
            serde_json::from_slice(&desk.expect(0, &["list", name, "--json"]).out).unwrap();
        // What the entries must be is told by the source, the two that kindpack writes itself by
        // what it says of them.
        let mut digests: BTreeMap<String, String> = files_below(&desk.work().join(source))
            .into_iter()
            .filter(|(name, _)| crate::support::fixtures::is_export_file(name))
            .map(|(name, path)| (format!("exports/{name}"), sha256(&fs::read(path).unwrap())))
            .collect();
        digests.insert(
            "SHA256SUMS".to_owned(),
            listed["sums"]["sha256"].as_str().unwrap().to_owned(),
        );
        digests.insert(
            "manifest.json".to_owned(),
            sha256(&desk.expect(0, &["list", name, "--json"]).out),
        );
        archives.push((name, digests));
    }
    Archives {
        desk,
        archives,
        failed,
    }
});

#[test]
fn archives_of_every_shape_are_made() {
    assert_eq!(ARCHIVES.failed, [""; 0]);
}

/// Runs a program for each archive and compares what it says of each entry.
fn compare(program: &Path, args: impl Fn(&str) -> Vec<String>, reader: &str) {
    for (name, expected) in &ARCHIVES.archives {
        let args = args(name);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = Running::start(ARCHIVES.desk.program(program, &args)).wait();
        assert_eq!(run.code, 0, "{reader} on {name}: {}", run.brief());
        let said: BTreeMap<String, String> = run
            .text()
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(digest, name)| (name.to_owned(), digest.to_owned()))
            .collect();
        assert_eq!(said, *expected, "{reader} on {name}");
    }
}

/// Runs a program that unpacks each archive and compares what it writes.
fn compare_unpacked(program: &Path, args: impl Fn(&str, &str) -> Vec<String>, reader: &str) {
    for (name, expected) in &ARCHIVES.archives {
        let folder = ARCHIVES.desk.path(&format!("{reader}-{name}"));
        fs::create_dir_all(&folder).unwrap();
        let args = args(name, folder.to_str().unwrap());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = Running::start(ARCHIVES.desk.program(program, &args)).wait();
        assert_eq!(run.code, 0, "{reader} on {name}: {}", run.brief());
        let found: BTreeMap<String, String> = files_below(&folder)
            .into_iter()
            .map(|(name, path)| (name, sha256(&fs::read(path).unwrap())))
            .collect();
        assert_eq!(found, *expected, "{reader} on {name}");
        fs::remove_dir_all(folder).unwrap();
    }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

#[test]
fn unzip_finds_no_fault_and_the_same_bytes() {
    let Some(unzip) = outside_program("unzip", &["unzip"], "archives read by Info-ZIP's unzip")
    else {
        return;
    };
    for (name, expected) in &ARCHIVES.archives {
        let run = Running::start(ARCHIVES.desk.program(&unzip, &["-t", name])).wait();
        assert_eq!(
            run.code,
            0,
            "unzip -t {name}: {} {}",
            run.brief(),
            String::from_utf8_lossy(&run.out)
        );
        for member in ["manifest.json", "SHA256SUMS"] {
            let run = Running::start(ARCHIVES.desk.program(&unzip, &["-p", name, member])).wait();
            assert_eq!(
                (run.code, sha256(&run.out)),
                (0, expected[member].clone()),
                "unzip -p {name} {member}"
            );
        }
    }
    compare_unpacked(
        &unzip,
        |name, folder| owned(&["-q", name, "-d", folder]),
        "unzip",
    );
}

#[test]
fn bsdtar_finds_the_same_bytes() {
    let Some(bsdtar) = outside_program(
        "bsdtar",
        &["bsdtar"],
        "archives read by libarchive's bsdtar",
    ) else {
        return;
    };
    compare_unpacked(
        &bsdtar,
        |name, folder| owned(&["-x", "-f", name, "-C", folder]),
        "bsdtar",
    );
    // As a stream nothing can be sought: every local header must stand for itself.
    for (name, expected) in &ARCHIVES.archives {
        let folder = ARCHIVES.desk.path(&format!("stream-{name}"));
        fs::create_dir_all(&folder).unwrap();
        let mut command = ARCHIVES
            .desk
            .program(&bsdtar, &["-x", "-f", "-", "-C", folder.to_str().unwrap()]);
        command.stdin(fs::File::open(ARCHIVES.desk.path(name)).unwrap());
        let run = Running::start(command).wait();
        assert_eq!(
            run.code,
            0,
            "bsdtar on the stream of {name}: {}",
            run.brief()
        );
        let found: BTreeMap<String, String> = files_below(&folder)
            .into_iter()
            .map(|(name, path)| (name, sha256(&fs::read(path).unwrap())))
            .collect();
        assert_eq!(found, *expected, "bsdtar on the stream of {name}");
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn seven_zip_reads_the_same_bytes() {
    let Some(program) = outside_program("7zz", &["7zz", "7z", "7za"], "archives read by 7-Zip")
    else {
        return;
    };
    for (name, _) in &ARCHIVES.archives {
        let run = Running::start(ARCHIVES.desk.program(&program, &["t", name])).wait();
        let said = String::from_utf8_lossy(&run.out).into_owned();
        assert_eq!(run.code, 0, "7-Zip on {name}: {} {said}", run.brief());
        assert!(
            !said.contains("Warnings:") && !said.contains("WARNING"),
            "7-Zip on {name}: {said}"
        );
    }
    compare_unpacked(
        &program,
        |name, folder| owned(&["x", "-bd", "-y", &format!("-o{folder}"), name]),
        "7-Zip",
    );
}

#[test]
fn python_finds_the_same_bytes() {
    const SCRIPT: &str = "import hashlib, sys, zipfile\n\
        archive = zipfile.ZipFile(sys.argv[1])\n\
        assert archive.testzip() is None\n\
        for info in archive.infolist():\n    \
            sys.stdout.buffer.write(('%s %s\\n' % (hashlib.sha256(archive.read(info)).hexdigest(), info.filename)).encode())\n";
    let Some(python) = outside_program(
        "python",
        &["python3", "python"],
        "archives read by Python's zipfile",
    ) else {
        return;
    };
    compare(&python, |name| owned(&["-c", SCRIPT, name]), "zipfile");
}

#[test]
fn both_of_javas_readers_find_the_same_bytes() {
    const SOURCE: &str = r#"
        import java.io.*;
        import java.nio.charset.StandardCharsets;
        import java.security.MessageDigest;
        import java.util.zip.*;

        public class ReadZip {
            static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);

            static void tell(String reader, String archive, String name, InputStream in) throws Exception {
                MessageDigest digest = MessageDigest.getInstance("SHA-256");
                byte[] buffer = new byte[65536];
                for (int read; (read = in.read(buffer)) > 0; ) digest.update(buffer, 0, read);
                StringBuilder hex = new StringBuilder();
                for (byte b : digest.digest()) hex.append(String.format("%02x", b));
                OUT.print(reader + "\t" + archive + "\t" + hex + "\t" + name + "\n");
            }

            public static void main(String[] archives) throws Exception {
                for (String archive : archives) {
                    try (ZipFile zip = new ZipFile(archive)) {
                        for (var entries = zip.entries(); entries.hasMoreElements(); ) {
                            ZipEntry entry = entries.nextElement();
                            tell("ZipFile", archive, entry.getName(), zip.getInputStream(entry));
                        }
                    }
                    try (ZipInputStream zip = new ZipInputStream(new BufferedInputStream(new FileInputStream(archive)))) {
                        for (ZipEntry entry; (entry = zip.getNextEntry()) != null; ) tell("ZipInputStream", archive, entry.getName(), zip);
                    }
                }
                OUT.flush();
            }
        }
    "#;
    const TEST: &str = "archives read by Java";
    let Some(java) = outside_program("java", &["java"], TEST) else {
        return;
    };
    ARCHIVES.desk.write("ReadZip.java", SOURCE);
    let names = ARCHIVES.archives.iter().map(|(name, _)| *name);
    let args: Vec<&str> = ["-XX:TieredStopAtLevel=1", "ReadZip.java"]
        .into_iter()
        .chain(names)
        .collect();
    let run = Running::start(ARCHIVES.desk.program(&java, &args)).wait();
    if run.err.contains("jdk.compiler") {
        return crate::support::skip(
            "java",
            TEST,
            "this Java is a run-time environment alone, which has no compiler",
        );
    }
    assert_eq!(run.code, 0, "{}", run.brief());
    let mut said: BTreeMap<(String, String), BTreeMap<String, String>> = BTreeMap::new();
    for line in run.text().lines() {
        let [reader, archive, digest, name] = line
            .splitn(4, '\t')
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        said.entry((reader, archive))
            .or_default()
            .insert(name, digest);
    }
    for (name, expected) in &ARCHIVES.archives {
        for reader in ["ZipFile", "ZipInputStream"] {
            assert_eq!(
                said[&(reader.to_owned(), (*name).to_owned())],
                *expected,
                "Java's {reader} on {name}"
            );
        }
    }
}

#[test]
fn streamed_entries_have_descriptors_stored_ones_not() {
    // Without this the two large archives would prove nothing to the readers above.
    let flags = |name: &str| -> BTreeMap<String, u16> {
        let bytes = ARCHIVES.desk.read(name);
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
        (0..archive.len())
            .map(|index| {
                let entry = archive.by_index_raw(index).unwrap();
                let at = entry.header_start() as usize + 6;
                (
                    String::from_utf8(entry.name_raw().to_vec()).unwrap(),
                    u16::from_le_bytes([bytes[at], bytes[at + 1]]),
                )
            })
            .collect()
    };
    let streamed = |name: &str| {
        flags(name)
            .into_iter()
            .filter(|(_, flags)| flags & 8 != 0)
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        streamed("large.zip").len(),
        1,
        "{:?}",
        streamed("large.zip")
    );
    assert!(streamed("large.zip")[0].ends_with("/output-0"));
    for (name, _) in ARCHIVES
        .archives
        .iter()
        .filter(|(name, _)| *name != "large.zip")
    {
        assert_eq!(streamed(name), [""; 0], "{name}");
    }
}
