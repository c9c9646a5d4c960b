//! Plans from outside: choices from profiles and files, what is said of them, targets that nobody
//! meant, and the archives of a folder.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::fixtures::{legacy, managed};
use crate::support::{Run, Running, TestDir, sound};

/// A desk with the managed fixture packed.
fn desk() -> TestDir {
    let desk = TestDir::new();
    desk.pack(&managed().source);
    desk
}

fn run_with(desk: &TestDir, environment: &[(&str, &str)], args: &[&str]) -> Run {
    let mut command = desk.kindpack(args);
    command.envs(environment.iter().copied());
    sound(Running::start(command).wait(), args)
}

/// An address at which nobody answers, and who came there.
struct Doorbell {
    address: String,
    came: Arc<Mutex<Vec<u16>>>,
}

impl Doorbell {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let came = Arc::new(Mutex::new(Vec::new()));
        let seen = came.clone();
        std::thread::spawn(move || {
            listener.incoming().for_each(|caller| {
                seen.lock()
                    .unwrap()
                    .push(caller.unwrap().peer_addr().unwrap().port())
            })
        });
        Doorbell { address, came }
    }

    /// How often somebody came so far. Whoever came before this question is let in before it.
    fn rung(&self) -> usize {
        let own = TcpStream::connect(&self.address).unwrap();
        let port = own.local_addr().unwrap().port();
        loop {
            if let Some(before) = self
                .came
                .lock()
                .unwrap()
                .iter()
                .position(|other| *other == port)
            {
                return before;
            }
            std::thread::yield_now();
        }
    }
}

#[test]
fn unintended_target_is_refused_without_calls() {
    let desk = desk();
    let bell = Doorbell::new();
    let plan = desk.plan(
        "set.zip",
        &format!("emulator:shop-test@{}", bell.address),
        "plan.json",
        &[],
    );
    let edited =
        |name: &str, from: &str, to: &str| desk.write(name, plan.to_string().replace(from, to));
    let emulator = format!("emulator:shop-test@{}", bell.address);
    edited("source.json", &emulator, "datastore:demo-src");
    edited("other.json", &emulator, "datastore:shop-test");
    edited(
        "recovery.json",
        "\"disaster_recovery\":false",
        "\"disaster_recovery\":true",
    );
    edited(
        "empty.json",
        "\"on_existing\":\"fail\"",
        "\"on_existing\":\"merge\"",
    );
    desk.plan("set.zip", "datastore:shop-test", "service.json", &[]);
    desk.write(
        "kindpack.toml",
        "[profile.source]\ntarget = \"datastore:demo-src\"\n[profile.alias]\ntarget = \"datastore:s~Demo-Src\"\n\
         [profile.service]\ntarget = \"datastore:shop-test\"\n[profile.google]\ntarget = \"emulator:shop@datastore.googleapis.com:443\"\n[profile.none]\n",
    );
    desk.write(
        "confirm.toml",
        "[profile.sure]\ntarget = \"datastore:demo-src\"\nconfirm = \"demo-src\"\n",
    );
    desk.write(
        "recovery.toml",
        "[profile.sure]\ntarget = \"datastore:demo-src\"\ndisaster_recovery = true\n",
    );

    type Row<'a> = (i32, &'a [&'a str], &'a [(&'a str, &'a str)]);
    let set = |host: &'static str| [("DATASTORE_EMULATOR_HOST", host)];
    let (to_bell, empty, half, google) = (
        [("DATASTORE_EMULATOR_HOST", bell.address.as_str())],
        set(""),
        set("localhost"),
        set("datastore.googleapis.com:443"),
    );
    let rows: Vec<Row> = vec![
        (2, &["restore", "set.zip"], &[]),
        (2, &["restore", "set.zip"], &to_bell),
        (2, &["restore", "set.zip", "--profile", "none"], &to_bell),
        (5, &["restore", "set.zip", "--profile", "source"], &[]),
        (5, &["restore", "set.zip", "--profile", "alias"], &[]),
        (5, &["restore", "set.zip", "--profile", "google"], &[]),
        (5, &["restore", "set.zip", "--profile", "service"], &to_bell),
        (
            2,
            &[
                "restore",
                "set.zip",
                "--profile",
                "sure",
                "--config",
                "confirm.toml",
            ],
            &[],
        ),
        (
            2,
            &[
                "restore",
                "set.zip",
                "--profile",
                "sure",
                "--config",
                "recovery.toml",
            ],
            &[],
        ),
        (2, &["restore", "plan.json", "--profile", "service"], &[]),
        (
            2,
            &[
                "restore",
                "plan.json",
                "--target",
                "emulator:other@127.0.0.1:1",
            ],
            &[],
        ),
        (5, &["restore", "source.json"], &[]),
        (5, &["restore", "other.json"], &[]),
        (5, &["restore", "recovery.json"], &[]),
        (5, &["restore", "empty.json"], &[]),
        (5, &["restore", "service.json"], &to_bell),
        (5, &["restore", "service.json"], &empty),
        (
            5,
            &["restore", "set.zip", "--target", "datastore:demo-src"],
            &[],
        ),
        (
            5,
            &["restore", "set.zip", "--target", "datastore:DEMO-SRC"],
            &[],
        ),
        (
            5,
            &["restore", "set.zip", "--target", "datastore:s~demo-src"],
            &[],
        ),
        (
            5,
            &["restore", "set.zip", "--target", "datastore:e~demo-src"],
            &[],
        ),
        (
            5,
            &[
                "restore",
                "set.zip",
                "--target",
                "datastore:demo-src/(default)",
            ],
            &[],
        ),
        (
            5,
            &["restore", "set.zip", "--target", "datastore:demo-src/copy"],
            &[],
        ),
        (
            5,
            &[
                "restore",
                "set.zip",
                "--target",
                "datastore:example.com:demo-src",
            ],
            &[],
        ),
        (
            2,
            &["restore", "set.zip", "--target", "datastore:demo-src/"],
            &[],
        ),
        (
            2,
            &["restore", "set.zip", "--target", "datastore:demo-src."],
            &[],
        ),
        (
            2,
            &["restore", "set.zip", "--target", "datastore: demo-src"],
            &[],
        ),
        (
            2,
            &["restore", "set.zip", "--target", "datastore:demo-src "],
            &[],
        ),
        (
            2,
            &["restore", "set.zip", "--target", "datastore:dem\u{43e}-src"],
            &[],
        ),
        (
            2,
            &[
                "restore",
                "set.zip",
                "--target",
                "datastore:demo-src\u{200b}",
            ],
            &[],
        ),
        (
            2,
            &["restore", "set.zip", "--target", "datastore:123456789012"],
            &[],
        ),
        (
            2,
            &[
                "restore",
                "set.zip",
                "--target",
                "datastore:projects/demo-src",
            ],
            &[],
        ),
        (2, &["restore", "set.zip", "--target", "demo-src"], &[]),
        (
            2,
            &["restore", "set.zip", "--target", "Datastore:demo-src"],
            &[],
        ),
        (
            5,
            &["restore", "set.zip", "--target", "datastore:shop-test"],
            &to_bell,
        ),
        (
            5,
            &["restore", "set.zip", "--target", "datastore:shop-test"],
            &empty,
        ),
        (
            5,
            &["restore", "set.zip", "--target", "datastore:shop-test"],
            &half,
        ),
        (
            5,
            &["restore", "set.zip", "--target", "datastore:shop-test"],
            &[("DATASTORE_HOST", "http://localhost:8081")],
        ),
        (
            5,
            &["restore", "set.zip", "--target", "datastore:shop-test"],
            &[("DATASTORE_EMULATOR_HOST_PATH", "localhost:8081/datastore")],
        ),
        (
            2,
            &["restore", "set.zip", "--target", "emulator:shop-test"],
            &[],
        ),
        (
            2,
            &["restore", "set.zip", "--target", "emulator:shop-test"],
            &empty,
        ),
        (
            2,
            &["restore", "set.zip", "--target", "emulator:shop-test"],
            &half,
        ),
        (
            5,
            &["restore", "set.zip", "--target", "emulator:shop-test"],
            &google,
        ),
        (
            5,
            &[
                "restore",
                "set.zip",
                "--target",
                "emulator:shop-test@datastore.googleapis.com:443",
            ],
            &[],
        ),
        (
            5,
            &[
                "restore",
                "set.zip",
                "--target",
                "emulator:shop-test@Datastore.GoogleApis.com.:443",
            ],
            &to_bell,
        ),
        (
            2,
            &[
                "restore",
                "set.zip",
                "--target",
                "emulator:shop-test@https://datastore.googleapis.com:443",
            ],
            &[],
        ),
    ];
    assert!(rows.len() >= 30);
    let proxy = format!("http://{}", bell.address);
    for (code, args, environment) in rows {
        // Whatever would be sent to the service goes through the proxy, which is watched.
        let mut environment = environment.to_vec();
        environment.extend([
            ("HTTPS_PROXY", proxy.as_str()),
            ("HTTP_PROXY", proxy.as_str()),
        ]);
        let run = run_with(&desk, &environment, args);
        assert_eq!(run.code, code, "{args:?} {environment:?}: {}", run.brief());
        assert!(run.err.contains("kindpack: "), "{args:?}: {}", run.brief());
    }
    assert_eq!(bell.rung(), 0);
}

#[test]
fn command_line_overrides_profile() {
    let desk = desk();
    desk.write("conf/order.toml", "first = [\"Media\"]\n");
    desk.write(
        "conf/redact.txt",
        "# streets\nCustomer.address.street=mask\n",
    );
    desk.write(
        "conf/kindpack.toml",
        "[profile.laptop]\ntarget = \"ndjson:out\"\nonly = [\"acme/*\"]\nexclude = [\"Session\"]\norder_file = \"order.toml\"\n\
         redact_file = \"redact.txt\"\nredact = [\"Customer.title=null\"]\nmap_namespaces = { acme = \"test\" }\n",
    );
    let laptop = ["--profile", "laptop", "--config", "conf/kindpack.toml"];
    let plan = |options: &[&str]| {
        let args: Vec<&str> = ["plan", "set.zip", "-o", "plan.json"]
            .iter()
            .chain(&laptop)
            .chain(options)
            .copied()
            .collect();
        desk.expect(0, &args);
        desk.json_file("plan.json")
    };
    let whole = plan(&[]);
    let step = |plan: &Value, at: usize| {
        (
            plan["steps"][at]["kind"].clone(),
            plan["steps"][at]["reason"].clone(),
        )
    };
    assert_eq!(
        step(&whole, 0),
        (json!("Media"), json!("conf/order.toml: first Media"))
    );
    assert!(
        whole["target"].as_str().unwrap().ends_with("/conf/out"),
        "{}",
        whole["target"]
    );
    assert_eq!(
        (&whole["choices"]["profile"], &whole["maps"]),
        (&json!("laptop"), &json!({"acme": "test"}))
    );
    assert_eq!(
        whole["redaction"]["rules"],
        json!(["Customer.title=null", "Customer.address.street=mask"])
    );

    let other = plan(&[
        "--target",
        "ndjson:other",
        "--exclude",
        "Order",
        "--redact",
        "Customer.score=drop",
    ]);
    assert!(
        other["target"].as_str().unwrap().ends_with("/other"),
        "{}",
        other["target"]
    );
    assert_eq!(other["choices"]["exclude"], json!(["Order"]));
    let rules = [
        "Customer.title=null",
        "Customer.address.street=mask",
        "Customer.score=drop",
    ];
    assert_eq!(
        other["redaction"]["rules"],
        json!(rules),
        "one rule more takes none away"
    );
    assert_eq!(other["choices"]["only"], json!(["acme/*"]));

    desk.write(
        "wrong.toml",
        "[profile.laptop]\n\ntagret = \"ndjson:out\"\n",
    );
    let run = desk.expect(
        2,
        &[
            "plan",
            "set.zip",
            "--profile",
            "laptop",
            "--config",
            "wrong.toml",
        ],
    );
    assert!(
        run.err.contains("wrong.toml: line 3: ") && run.err.contains("tagret"),
        "{}",
        run.err
    );
    desk.expect(2, &["plan", "set.zip", "--profile", "laptop"]);
    desk.expect(
        2,
        &[
            "plan",
            "set.zip",
            "--config",
            "conf/kindpack.toml",
            "--target",
            "ndjson:out",
        ],
    );
}

#[test]
fn rules_report_matches_and_typos_fail() {
    let desk = desk();
    let plan = desk.plan(
        "set.zip",
        "ndjson:out",
        "plan.json",
        &[
            "--exclude",
            "EdgeCase",
            "--redact",
            "Customer.address.*=mask",
            "--redact",
            "?Customer.adress=null",
            "--redact",
            "?Custmer.x=drop",
        ],
    );
    let matches = &plan["redaction"]["matches"];
    assert_eq!(
        matches[1],
        json!({"rule": "?Customer.adress=null", "properties": []})
    );
    let found: Vec<&str> = matches[0]["properties"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert!(found.contains(&"Customer.address.street"), "{found:?}");
    let warnings = plan["warnings"].as_array().unwrap();
    assert!(
        warnings.contains(&json!(
            "--redact ?Customer.adress=null matches no property of the archive"
        )),
        "{warnings:?}"
    );

    let target = ["--target", "ndjson:out"];
    let fails = |options: &[&str], names: &str| {
        let args: Vec<&str> = ["plan", "set.zip"]
            .iter()
            .chain(&target)
            .chain(options)
            .copied()
            .collect();
        let run = desk.expect(2, &args);
        assert!(run.err.contains(names), "{options:?}: {}", run.err);
    };
    fails(&["--redact", "Custmer.title=null"], "Custmer.title=null");
    fails(
        &["--redact", "Customer.adress=null"],
        "--redact '?Customer.adress=null'",
    );
    fails(
        &["--exclude", "Customer", "--redact", "Customer.adress=null"],
        "Customer.adress=null matches no property",
    );
    let left_out = desk.plan(
        "set.zip",
        "ndjson:out",
        "left.json",
        &["--exclude", "Customer", "--redact", "Customer.title=null"],
    );
    assert_eq!(
        left_out["redaction"]["matches"][0]["left_out"],
        json!(["Customer.title"])
    );
    fails(&["--redact", "Customer.title=hash"], "KINDPACK_REDACT_KEY");
    fails(&["--redact", "Customer.title=blur"], "blur");
    fails(&["--redact", "@nowhere.txt"], "nowhere.txt");
    desk.write("rules.txt", "Customer.title=null\nnonsense\n");
    fails(&["--redact", "rules.txt"], "rules.txt: line 2: ");
    fails(&["--sample", "5"], "--limit");
    fails(&["--sample", "5%", "--limit", "3"], "--limit");
    fails(&["--on-existing", "replace"], "written from scratch");

    let args = [
        "plan",
        "set.zip",
        "--target",
        "ndjson:out",
        "--redact",
        "Customer.title=hash",
        "-o",
        "hashed.json",
    ];
    let secret = "a secret that is told nowhere";
    let run = run_with(&desk, &[("KINDPACK_REDACT_KEY", secret)], &args);
    assert_eq!(run.code, 0, "{}", run.brief());
    assert!(
        !format!("{}{}{}", run.text(), run.err, desk.json_file("hashed.json")).contains(secret)
    );
    assert_eq!(
        desk.json_file("hashed.json")["redaction"]["key_id"]
            .as_str()
            .unwrap()
            .len(),
        16
    );
    assert!(
        !run.text().contains("KINDPACK_REDACT_KEY"),
        "{}",
        run.text()
    );
    let run = run_with(&desk, &[("KINDPACK_REDACT_KEY", "short")], &args);
    assert!(
        run.code == 0 && run.text().contains("warning: KINDPACK_REDACT_KEY is short"),
        "{}",
        run.brief()
    );
}

#[test]
fn limit_takes_kinds_and_dependencies() {
    let desk = desk();
    let options = [
        "--only",
        "acme/Order",
        "--with-dependencies",
        "--limit",
        "1",
    ];
    let plan = desk.plan("set.zip", "ndjson:out", "plan.json", &options);
    let of = |kind: &str| {
        plan["steps"]
            .as_array()
            .unwrap()
            .iter()
            .find(|step| step["kind"] == kind)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (
            of("Order")["entities"].clone(),
            of("Session")["entities"].clone()
        ),
        (json!(1), json!(1))
    );
    assert!(of("Order")["of_entities"].as_u64().unwrap() > 1);
    let text = desk
        .expect(
            0,
            &[&["plan", "set.zip", "--target", "ndjson:out"][..], &options].concat(),
        )
        .text();
    assert!(
        text.contains("~1")
            && text.contains("a sample of 1 of each chosen kind, and what it needs"),
        "{text}"
    );
    desk.expect(0, &["restore", "plan.json"]);
    let lines = |kind: &str| {
        String::from_utf8(desk.read(&format!("out/acme/{kind}.ndjson")))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!((lines("Order"), lines("Customer")), (1, 1));
    // The order's needs lead to no session.
    assert_eq!(lines("Session"), 0);
}

#[test]
fn table_explains_restore_without_colours() {
    let desk = desk();
    let text = |args: &[&str]| {
        desk.expect(0, &[&["plan", "set.zip"], args].concat())
            .text()
    };
    let replaced = text(&[
        "--target",
        "datastore:shop-test",
        "--on-existing",
        "replace",
        "--only",
        "acme/*",
        "--after-all",
        "make seed",
    ]);
    for words in [
        "DELETES others",
        "DELETES entities of these kinds",
        "entity writes that are billed",
        "about ",
        "run at the end: make seed",
    ] {
        assert!(replaced.contains(words), "{words}: {replaced}");
    }
    let sampled = text(&["--target", "ndjson:out", "--sample", "10%"]);
    assert!(
        sampled.contains("a sample of 10% of each kind")
            && sampled.contains("warning: a sample of 10%: "),
        "{sampled}"
    );
    assert!(!sampled.contains("DELETES") && !sampled.contains("billed"));

    let needed = text(&[
        "--target",
        "ndjson:out",
        "--only",
        "acme/Media",
        "--with-dependencies",
    ]);
    assert!(needed.contains("needed by Media"), "{needed}");
    let explained = text(&["--target", "ndjson:out", "--explain", "acme/Media"]);
    assert!(
        explained.contains("acme/Media")
            && explained.contains("comes after")
            && explained.contains("comes before"),
        "{explained}"
    );
    desk.json(
        2,
        &[
            "plan",
            "set.zip",
            "--target",
            "ndjson:out",
            "--explain",
            "Medium",
        ],
    );

    desk.json(
        8,
        &[
            "plan",
            "set.zip",
            "--target",
            "ndjson:out",
            "--detailed-exitcode",
        ],
    );
    desk.json(
        0,
        &[
            "plan",
            "set.zip",
            "--target",
            "ndjson:out",
            "--detailed-exitcode",
            "--exclude",
            "*",
        ],
    );
}

#[test]
fn contradictions_name_options_and_files() {
    let desk = desk();
    desk.write("order.toml", "depends_on = [\"Media=Session\"]\n");
    let args = [
        "plan",
        "set.zip",
        "--target",
        "ndjson:out",
        "--order-file",
        "order.toml",
        "--depends-on",
        "Session=Media",
    ];
    let run = desk.expect(2, &args);
    assert!(
        run.err.contains("order.toml: depends_on Media=Session")
            && run.err.contains("--depends-on Session=Media"),
        "{}",
        run.err
    );
    desk.write("order.toml", "first = []\nfrist = [\"Media\"]\n");
    let run = desk.expect(2, &args);
    assert!(
        run.err.contains("order.toml: line 2: ") && run.err.contains("frist"),
        "{}",
        run.err
    );
}

#[test]
fn archives_are_listed_newest_last() {
    let desk = TestDir::new();
    desk.json(0, &["pack", &managed().source, "archives/"]);
    desk.json(0, &["pack", &legacy().source, "archives/"]);
    let names: Vec<String> = desk
        .names_in("archives")
        .into_iter()
        .filter(|name| name.ends_with(".zip"))
        .collect();
    let [first, second] = names.as_slice() else {
        panic!("{names:?}")
    };
    fs::copy(
        desk.path(&format!("archives/{first}")),
        desk.path("archives/copy.zip"),
    )
    .unwrap();
    desk.write("archives/notes.zip", "no zip at all");
    desk.write("archives/deeper/notes.zip", "somebody else's");
    desk.write("archives/readme.txt", "nothing to see");
    let run = desk.expect(0, &["archives", "archives", "--json"]);
    let events = run.events();
    let of = |name: &str| {
        events
            .iter()
            .find(|event| {
                event["archive"]
                    .as_str()
                    .is_some_and(|archive| archive.ends_with(name))
            })
            .unwrap()
    };
    assert_eq!(
        events.last().unwrap(),
        &json!({"event": "done", "archives": 4})
    );
    for name in [first, second] {
        assert_eq!(
            (&of(name)["sealed"], of(name)["entities"].as_u64().is_some()),
            (&json!(true), true),
            "{}",
            of(name)
        );
    }
    assert_eq!(
        (&of("copy.zip")["sealed"], &of("copy.zip")["reason"]),
        (&json!(false), &json!("no sidecar"))
    );
    assert_eq!(
        (&of("notes.zip")["reason"], &of("notes.zip")["id"]),
        (&json!("not a zip, or cut off"), &Value::Null)
    );
    let ids: Vec<&str> = events
        .iter()
        .filter_map(|event| event["id"].as_str())
        .collect();
    assert!(ids.is_sorted() && ids.len() == 3, "{ids:?}");

    fs::copy(
        desk.path(&format!("archives/{first}.sha256")),
        desk.path("archives/copy.zip.sha256"),
    )
    .unwrap();
    let table = desk.expect(0, &["archives", "archives/"]).text();
    assert!(
        table.contains("sidecar of another archive") && table.contains("not a zip, or cut off"),
        "{table}"
    );
    assert_eq!(
        desk.json(0, &["archives", "archives", "--namespace", "nobody"])["archives"],
        0
    );
    let all = first.split("_backup_").next().unwrap();
    assert_ne!(
        desk.json(0, &["archives", "archives", "--namespace", all])["archives"],
        0
    );
    desk.json(2, &["archives", "nowhere"]);
}
