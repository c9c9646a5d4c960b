//! `kindpack report` and `--report FILE.html`, from outside and in a real browser.

use std::fs;
use std::path::{Path, PathBuf};

use kindpack::model::{Kind, Manifest, Namespace};
use kindpack::plan::ArchiveRef;
use kindpack::report::{ReportPage, default_order, to_html};
use serde_json::Value;

use crate::support::fixtures::managed;
use crate::support::{Run, Running, TestDir, copy_folder, outside_program};

/// The shop that `kindpack demo` shows.
const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/shop/exports");

/// A desk with an archive.
fn desk() -> TestDir {
    let desk = TestDir::new();
    desk.pack(SHOP);
    desk
}

fn page(desk: &TestDir, name: &str) -> String {
    let page = String::from_utf8(desk.read(name)).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    page
}

#[test]
fn archive_page_is_written_once_and_again() {
    let desk = desk();
    let done = desk.json(0, &["report", "set.zip", "-o", "new/set.html"]);
    let first = page(&desk, "new/set.html");
    assert_eq!(done["bytes"], first.len());
    assert!(first.contains("project paper-shop") && first.contains(r#"id="dependencies""#));
    let run = desk.expect(0, &["report", "set.zip", "-o", "new/set.html"]);
    assert!(
        run.text().contains("open it in a browser"),
        "{}",
        run.text()
    );
    assert!(first == page(&desk, "new/set.html"));
    let run = desk.expect(0, &["report", "set.zip"]);
    assert!(run.text() == first, "the same on standard output");
}

#[test]
fn other_files_are_never_replaced() {
    let desk = desk();
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.write("other.html", "<!DOCTYPE html><html><head></head></html>");
    for name in ["set.zip", "plan.json", "other.html"] {
        let before = desk.read(name);
        desk.json(5, &["report", "set.zip", "-o", name]);
        assert!(before == desk.read(name), "{name}");
    }
    desk.json(5, &["restore", "plan.json", "--report", "other.html"]);
    desk.json(2, &["report", "set.zip", "-o", "."]);
    desk.json(2, &["report", "set.zip", "-o", "-"]);
}

#[test]
fn page_is_not_mixed_with_events() {
    let failed = desk().json(2, &["report", "set.zip"]);
    assert!(failed["hint"].as_str().unwrap().contains("-o report.html"));
}

#[test]
fn terminal_gets_a_hint_instead_of_html() {
    let Some(script) = outside_program("script", &["script"], "a page at a terminal") else {
        return;
    };
    let desk = desk();
    let line = format!("{} report set.zip", crate::support::PROGRAM);
    let command = desk.program(script, &["-qec", &line, "/dev/null"]);
    let run = Running::start(command).wait();
    assert_eq!(run.code, 2, "{}", run.text());
    assert!(run.text().contains("-o report.html") && !run.text().contains("<html"));
}

#[test]
fn newest_archive_of_a_folder_is_reported() {
    let desk = TestDir::new();
    desk.expect(0, &["pack", SHOP, "archives/"]);
    let run = desk.expect(0, &["report", "archives/", "-o", "newest.html"]);
    assert!(run.err.contains("the newest archive is"), "{}", run.err);
    assert!(page(&desk, "newest.html").contains("all_backup_20261127175817.zip"));
}

#[test]
fn encrypted_archive_needs_its_identity() {
    let desk = TestDir::new();
    let identity = age_identity(&desk);
    desk.expect(0, &["pack", SHOP, "set.zip", "--encrypt-to", &identity]);
    let report = ["report", "set.zip.age", "-o", "set.html"];
    desk.json(5, &report);
    desk.json(0, &[&report[..], &["--identity", "key.txt"]].concat());
    assert!(page(&desk, "set.html").contains("project paper-shop"));
}

/// Writes an identity; gives its recipient.
fn age_identity(desk: &TestDir) -> String {
    use age::secrecy::ExposeSecret as _;
    let identity = age::x25519::Identity::generate();
    desk.write("key.txt", identity.to_string().expose_secret());
    identity.to_public().to_string()
}

#[test]
fn plan_page_follows_its_restore() {
    let desk = desk();
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.json(0, &["report", "plan.json", "-o", "plan.html"]);
    let planned = page(&desk, "plan.html");
    assert!(planned.contains(r#"id="plan""#) && !planned.contains(r#"id="restore""#));
    assert!(planned.contains("breaks the cycle with"));

    desk.json(7, &["restore", "plan.json", "--max-steps", "5"]);
    desk.json(0, &["report", "plan.json", "-o", "plan.html"]);
    assert!(page(&desk, "plan.html").contains("5 of 18 steps done"));

    desk.json(0, &["restore", "plan.json", "--report", "restore.HTML"]);
    let restored = page(&desk, "restore.HTML");
    assert!(restored.contains("18 of 18 steps done") && restored.contains("445 entities restored"));
    desk.json(0, &["report", "plan.json", "-o", "plan.html"]);
    assert!(page(&desk, "plan.html").contains(r#"<span class="badge good">done</span>"#));
}

#[test]
fn plan_page_outlives_its_archive() {
    let desk = desk();
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.json(0, &["restore", "plan.json"]);
    fs::remove_file(desk.path("set.zip")).unwrap();
    let run = desk.expect(0, &["report", "plan.json", "-o", "plan.html"]);
    assert!(
        run.err.contains("the page shows what the plan says"),
        "{}",
        run.err
    );
    assert!(page(&desk, "plan.html").contains("18 of 18 steps done"));
    copy_folder(Path::new(&managed().source), &desk.path("exports"));
    desk.expect(0, &["pack", "exports", "set.zip"]);
    let run = desk.expect(0, &["report", "plan.json", "-o", "plan.html"]);
    assert!(
        run.err.contains("not the archive of this plan any more"),
        "{}",
        run.err
    );
}

#[test]
fn failed_restore_is_reported_with_its_reason() {
    let desk = desk();
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.write("out/lyon/Customer.ndjson", "{}");
    desk.json(5, &["restore", "plan.json", "--report", "failed.html"]);
    let failed = page(&desk, "failed.html");
    assert!(failed.contains("ended with exit code 5") && failed.contains(r#"class="notice bad""#));
}

#[test]
fn options_of_the_other_form_are_refused() {
    let desk = desk();
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    let to_file = ["-o", "page.html"];
    for args in [
        &["report", "plan.json", "--namespace", "lyon"][..],
        &["report", "set.zip", "--namespace", "lyon"],
        &["report", "set.zip", "--journal", "plan.json.journal"],
        &["report", "missing.zip"],
        &["report", "."],
    ] {
        desk.json(2, &[args, &to_file].concat());
    }
    desk.write("broken.json", "{\"format\":");
    desk.json(5, &["report", "broken.json", "-o", "page.html"]);
}

#[test]
fn no_property_value_is_on_the_page() {
    let desk = desk();
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.json(0, &["restore", "plan.json", "--report", "restore.html"]);
    let restored = page(&desk, "restore.html");
    let customers = String::from_utf8(desk.read("out/berlin/Customer.ndjson")).unwrap();
    let mut checked = 0;
    for line in customers.lines() {
        let entity: Value = serde_json::from_str(line).unwrap();
        for property in entity["properties"].as_object().unwrap().values() {
            let value = property["stringValue"]
                .as_str()
                .filter(|text| text.len() > 4);
            checked += usize::from(value.is_some());
            assert!(
                value.is_none_or(|value| !restored.contains(value)),
                "{value:?}"
            );
        }
    }
    assert!(checked > 20, "{checked} values");
}

/// The manifest of the desk's archive with its kinds in many namespaces, and with hostile names.
fn many_kinds(desk: &TestDir) -> Manifest {
    let printed = desk.expect(0, &["list", "set.zip", "--json"]);
    let mut manifest: Manifest = serde_json::from_slice(&printed.out).unwrap();
    let shop = manifest.kinds.clone();
    for tenant in 0..32 {
        for mut kind in shop
            .iter()
            .filter(|kind| kind.namespace.as_str() == "lyon")
            .cloned()
        {
            kind.namespace = Namespace::new(format!("tenant-{tenant:02}"));
            let pairs = kind.reference_pairs.iter_mut();
            pairs.for_each(|pair| pair.namespace = kind.namespace.clone());
            kind.bytes *= 1 + tenant;
            manifest.kinds.push(kind);
        }
    }
    let names = [
        "<script>console.error(1)</script>",
        "\"><img src=x onerror=console.error(2)>",
        "\u{202e}&lt;価格表",
    ];
    for (kind, name) in manifest.kinds.iter_mut().zip(names) {
        kind.kind = Kind::new(name);
    }
    manifest.kinds.sort_by_key(|kind| kind.pair());
    manifest
}

/// A browser without a window, in a folder of its own.
struct Browser<'a> {
    program: PathBuf,
    desk: &'a TestDir,
}

impl<'a> Browser<'a> {
    fn find(desk: &'a TestDir, test: &str) -> Option<Self> {
        let program = outside_program("chromium", &["chromium"], test)?;
        Some(Browser { program, desk })
    }

    /// Shows a page; gives what the browser prints. It reaches no other machine.
    fn show(&self, page: &str, options: &[&str]) -> Run {
        let profile = format!("--user-data-dir={}", self.desk.text_path("profile"));
        let address = format!("file://{}", self.desk.text_path(page));
        let fixed = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=3000",
            "--enable-logging=stderr",
            &profile,
        ];
        let args = [&fixed[..], options, &[&address]].concat();
        let run = Running::start(self.desk.program(&self.program, &args)).wait();
        assert_eq!(run.code, 0, "{}", run.brief());
        run
    }

    /// What a page logs, and the addresses that it asks for.
    fn watch(&self, page: &str) -> (Vec<String>, Vec<String>) {
        let log = format!("--log-net-log={}", self.desk.text_path("net.json"));
        let run = self.show(page, &[&log, "--dump-dom"]);
        let console = run.err.lines().filter(|line| line.contains(":CONSOLE"));
        let net = self.desk.json_file("net.json");
        let events = net["events"].as_array().unwrap();
        // The browser's own requests come from no origin.
        let of_page = events
            .iter()
            .map(|event| &event["params"])
            .filter(|params| {
                params["initiator"]
                    .as_str()
                    .is_some_and(|initiator| initiator != "not an origin")
            });
        let addresses = of_page.map(|params| params["url"].to_string());
        (console.map(str::to_owned).collect(), addresses.collect())
    }

    /// How many bytes a picture of a page takes.
    fn picture_len(&self, page: &str, size: &str, scheme: &str) -> usize {
        let picture = format!("--screenshot={}", self.desk.text_path("page.png"));
        let size = format!("--window-size={size}");
        let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
        self.show(page, &[&picture, &size, &scheme]);
        let bytes = self.desk.read("page.png");
        assert!(bytes.starts_with(b"\x89PNG"));
        bytes.len()
    }
}

#[test]
fn browser_shows_the_page_and_loads_nothing() {
    let desk = desk();
    let Some(browser) = Browser::find(&desk, "the page in a browser") else {
        return;
    };
    let probe = "<img src='http://probe.invalid/a.png'/><script>console.error('probe')</script>";
    desk.write("probe.html", probe);
    let (console, addresses) = browser.watch("probe.html");
    assert!(
        console.len() == 1 && addresses.len() == 1,
        "{console:?} {addresses:?}"
    );

    let manifest = many_kinds(&desk);
    let archive = ArchiveRef {
        location: "set.zip".to_owned(),
        sha256: kindpack::model::Sha256([0; 32]),
        generation: None,
    };
    let order = default_order(&manifest, &archive).unwrap();
    desk.write(
        "many.html",
        to_html(&ReportPage::from_archive(&manifest, &order)),
    );
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.json(0, &["restore", "plan.json", "--report", "restore.html"]);
    for page in ["many.html", "restore.html"] {
        let (console, addresses) = browser.watch(page);
        assert!(
            console.is_empty() && addresses.is_empty(),
            "{page}: {console:?} {addresses:?}"
        );
    }
}

#[test]
fn browser_paints_light_dark_and_narrow_pages() {
    let desk = desk();
    let Some(browser) = Browser::find(&desk, "pictures of the page") else {
        return;
    };
    desk.json(0, &["report", "set.zip", "-o", "set.html"]);
    desk.write("blank.html", "<!DOCTYPE html><title>blank</title>");
    let blank = browser.picture_len("blank.html", "1240,1600", "1");
    for (size, scheme) in [("1240,1600", "1"), ("1240,1600", "0"), ("500,1600", "1")] {
        let painted = browser.picture_len("set.html", size, scheme);
        assert!(
            painted > 5 * blank,
            "{size} {scheme}: {painted} bytes, blank {blank}"
        );
    }
}
