//! Ways to point at the source or at production by mistake. Each is refused, and nothing is
//! written: that is counted at the socket.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::fixtures::managed;
use crate::support::{Running, TestDir, sound};

/// Takes whatever connects, remembers how each request begins, and answers that it is the wrong
/// one.
struct Socket {
    host: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Socket {
    fn open() -> Socket {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let Ok(mut socket) = socket else { continue };
                socket.set_read_timeout(Some(Duration::from_secs(5))).ok();
                let mut head = [0; 512];
                let read = socket.read(&mut head).unwrap_or(0);
                let line = String::from_utf8_lossy(&head[..read])
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                seen.lock().unwrap().push(line);
                socket
                    .write_all(
                        b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                    )
                    .ok();
            }
        });
        Socket { host, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// A way to be wrong: what it is, the arguments, the environment, and the exit code.
struct Case {
    what: &'static str,
    args: Vec<String>,
    env: Vec<(&'static str, String)>,
    code: i32,
}

fn case(what: &'static str, args: &[&str], env: &[(&'static str, &str)], code: i32) -> Case {
    Case {
        what,
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: env
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        code,
    }
}

/// A plan for an emulator, changed by hand.
fn edited(desk: &TestDir, name: &str, change: impl Fn(&mut Value)) {
    let mut plan = desk.json_file("plan.json");
    change(&mut plan);
    desk.write(name, serde_json::to_vec_pretty(&plan).unwrap());
}

fn cases(desk: &TestDir, socket: &Socket) -> Vec<Case> {
    const R: [&str; 3] = ["restore", "set.zip", "--target"];
    let restore =
        |rest: &[&'static str]| -> Vec<&'static str> { R.iter().chain(rest).copied().collect() };
    let at_socket = [("DATASTORE_EMULATOR_HOST", socket.host.as_str())];
    let mut cases = vec![
        case(
            "the source itself",
            &restore(&["datastore:demo-src", "--confirm", "demo-src"]),
            &[],
            5,
        ),
        case(
            "the source, only planned",
            &["plan", "set.zip", "--target", "datastore:demo-src"],
            &[],
            5,
        ),
        case(
            "the source in capitals",
            &restore(&["datastore:DEMO-SRC", "--confirm", "DEMO-SRC"]),
            &[],
            5,
        ),
        case(
            "the source with a data centre",
            &restore(&["datastore:s~demo-src", "--confirm", "s~demo-src"]),
            &[],
            5,
        ),
        case(
            "the source with another data centre",
            &restore(&["datastore:e~demo-src", "--confirm", "e~demo-src"]),
            &[],
            5,
        ),
        case(
            "the source's default database",
            &restore(&["datastore:demo-src/(default)", "--confirm", "demo-src"]),
            &[],
            5,
        ),
        case(
            "another database of the source",
            &restore(&["datastore:demo-src/other", "--confirm", "demo-src"]),
            &[],
            5,
        ),
        case(
            "the source with a slash behind",
            &restore(&["datastore:demo-src/", "--confirm", "demo-src"]),
            &[],
            2,
        ),
        case(
            "the source with a space before",
            &restore(&["datastore: demo-src", "--confirm", "demo-src"]),
            &[],
            2,
        ),
        case(
            "the source with a space behind",
            &restore(&["datastore:demo-src ", "--confirm", "demo-src "]),
            &[],
            2,
        ),
        case(
            "the source as an address",
            &restore(&["https://datastore.googleapis.com/v1/projects/demo-src"]),
            &[],
            2,
        ),
        case(
            "the source without a word before",
            &restore(&["demo-src"]),
            &[],
            2,
        ),
        case("a word in capitals", &restore(&["Datastore:shop"]), &[], 2),
        case("a bucket", &restore(&["gs://demo-src/restored"]), &[], 2),
        case("no target", &["restore", "set.zip"], &[], 2),
        case(
            "no target, but a project in the environment",
            &["restore", "set.zip"],
            &[("GOOGLE_CLOUD_PROJECT", "demo-src")],
            2,
        ),
        case(
            "no target, but an emulator in the environment",
            &["restore", "set.zip"],
            &at_socket,
            2,
        ),
        case(
            "no project",
            &restore(&["datastore:"]),
            &[("GOOGLE_CLOUD_PROJECT", "shop")],
            2,
        ),
        case(
            "disaster recovery that nobody confirms",
            &restore(&["datastore:demo-src", "--disaster-recovery"]),
            &[],
            5,
        ),
        case(
            "disaster recovery of another project",
            &restore(&[
                "datastore:demo-src",
                "--disaster-recovery",
                "--confirm",
                "shop",
            ]),
            &[],
            5,
        ),
        case(
            "a real project that nobody confirms",
            &restore(&["datastore:shop"]),
            &[],
            5,
        ),
        case(
            "another one confirmed",
            &restore(&["datastore:shop", "--confirm", "shop-test"]),
            &[],
            5,
        ),
        case(
            "another case confirmed",
            &restore(&["datastore:shop", "--confirm", "SHOP"]),
            &[],
            5,
        ),
        case(
            "confirmed with a space",
            &restore(&["datastore:shop", "--confirm", "shop "]),
            &[],
            5,
        ),
        case(
            "confirmed by nothing",
            &restore(&["datastore:shop", "--confirm", ""]),
            &[],
            5,
        ),
        case(
            "a real project to be replaced, not confirmed",
            &restore(&["datastore:shop", "--on-existing", "replace"]),
            &[],
            5,
        ),
        case(
            "real beside an emulator",
            &restore(&["datastore:shop", "--confirm", "shop"]),
            &at_socket,
            5,
        ),
        case(
            "real beside an empty emulator variable",
            &restore(&["datastore:shop", "--confirm", "shop"]),
            &[("DATASTORE_EMULATOR_HOST", "")],
            5,
        ),
        case(
            "real beside half an emulator variable",
            &restore(&["datastore:shop", "--confirm", "shop"]),
            &[("DATASTORE_EMULATOR_HOST", "localhost")],
            5,
        ),
        case("an emulator nowhere", &restore(&["emulator:shop"]), &[], 2),
        case(
            "an emulator at nothing",
            &restore(&["emulator:shop"]),
            &[("DATASTORE_EMULATOR_HOST", "")],
            2,
        ),
        case(
            "an emulator without a port",
            &restore(&["emulator:shop"]),
            &[("DATASTORE_EMULATOR_HOST", "localhost")],
            2,
        ),
        case(
            "an emulator with a scheme",
            &restore(&["emulator:shop"]),
            &[("DATASTORE_EMULATOR_HOST", "https://localhost:8081")],
            2,
        ),
        case(
            "Google's own address as an emulator",
            &restore(&["emulator:shop@datastore.googleapis.com:443"]),
            &[],
            5,
        ),
        case(
            "the same in capitals, with a dot",
            &restore(&["emulator:shop@Datastore.GoogleApis.com.:443"]),
            &[],
            5,
        ),
        case(
            "a regional address of Google's",
            &restore(&["emulator:shop@eu-datastore.googleapis.com:443"]),
            &[],
            5,
        ),
        case(
            "Google's own in the variable",
            &restore(&["emulator:shop"]),
            &[("DATASTORE_EMULATOR_HOST", "datastore.googleapis.com:443")],
            5,
        ),
        case(
            "a profile that names the source",
            &["restore", "set.zip", "--profile", "source"],
            &[],
            5,
        ),
        case(
            "a profile that confirms",
            &["restore", "set.zip", "--profile", "confirms"],
            &[],
            2,
        ),
        case(
            "a profile that declares a disaster",
            &["restore", "set.zip", "--profile", "disaster"],
            &[],
            2,
        ),
        case(
            "a profile that is not there",
            &["restore", "set.zip", "--profile", "laptop2"],
            &[],
            2,
        ),
        case(
            "a configuration that is not there",
            &[
                "restore",
                "set.zip",
                "--profile",
                "source",
                "--config",
                "none.toml",
            ],
            &[],
            2,
        ),
        case(
            "a profile for a real project, beside an emulator",
            &[
                "restore",
                "set.zip",
                "--profile",
                "real",
                "--confirm",
                "shop",
            ],
            &at_socket,
            5,
        ),
        case(
            "a plan whose target became the source",
            &["restore", "to-source.json", "--confirm", "demo-src"],
            &[],
            5,
        ),
        case(
            "a plan whose target became a real project",
            &["restore", "to-real.json", "--confirm", "shop"],
            &[],
            5,
        ),
        case(
            "a plan whose emulator moved",
            &["restore", "to-elsewhere.json"],
            &[],
            5,
        ),
        case(
            "a plan whose source was renamed",
            &["restore", "renamed.json"],
            &[],
            5,
        ),
        case(
            "a plan that was made a disaster's",
            &["restore", "disaster.json", "--confirm", "demo-src"],
            &[],
            5,
        ),
        case(
            "a plan with choices beside it",
            &[
                "restore",
                "plan.json",
                "--target",
                "datastore:shop",
                "--confirm",
                "shop",
            ],
            &[],
            2,
        ),
        case(
            "a plan for a real project that nobody confirms",
            &["restore", "real.json"],
            &[],
            5,
        ),
        case(
            "the same, confirmed by the source's name",
            &["restore", "real.json", "--confirm", "demo-src"],
            &[],
            5,
        ),
        case(
            "the same, beside an emulator",
            &["restore", "real.json", "--confirm", "shop"],
            &at_socket,
            5,
        ),
        case(
            "an import into the source",
            &restore(&[
                "datastore:demo-src",
                "--confirm",
                "demo-src",
                "--via",
                "import",
                "--staging",
                "gs://staging/x",
            ]),
            &[],
            5,
        ),
        case(
            "an import into a real project that nobody confirms",
            &restore(&[
                "datastore:shop",
                "--via",
                "import",
                "--staging",
                "gs://staging/x",
            ]),
            &[],
            5,
        ),
    ];
    for case in &mut cases {
        // Whoever sends something in spite of all that sends it here.
        let endpoint = format!("http://{}/", socket.host);
        case.env.push((
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_DATASTORE",
            endpoint.clone(),
        ));
        case.env.push(("HTTPS_PROXY", endpoint.clone()));
        case.env.push(("https_proxy", endpoint));
    }
    desk.write(
        "kindpack.toml",
        "[profile.source]\ntarget = \"datastore:demo-src\"\n\n[profile.real]\ntarget = \"datastore:shop\"\n\n\
         [profile.confirms]\ntarget = \"datastore:shop\"\nconfirm = \"shop\"\n\n\
         [profile.disaster]\ntarget = \"datastore:demo-src\"\ndisaster_recovery = true\n",
    );
    cases
}

#[test]
fn wrong_target_is_refused_and_nothing_sent() {
    let desk = TestDir::new();
    desk.pack(&managed().source);
    let socket = Socket::open();
    desk.plan(
        "set.zip",
        &format!("emulator:shop-test@{}", socket.host),
        "plan.json",
        &[],
    );
    desk.plan("set.zip", "datastore:shop", "real.json", &[]);
    edited(&desk, "to-source.json", |plan| {
        plan["target"] = "datastore:demo-src".into()
    });
    edited(&desk, "to-real.json", |plan| {
        plan["target"] = "datastore:shop".into()
    });
    edited(&desk, "to-elsewhere.json", |plan| {
        plan["target"] = "emulator:shop-test@localhost:1".into()
    });
    edited(&desk, "renamed.json", |plan| {
        plan["project"] = "another".into()
    });
    edited(&desk, "disaster.json", |plan| {
        plan["target"] = "datastore:demo-src".into();
        plan["choices"]["disaster_recovery"] = true.into();
    });

    let cases = cases(&desk, &socket);
    assert!(cases.len() >= 30, "{} ways", cases.len());
    let mut wrong = Vec::new();
    for Case {
        what,
        args,
        env,
        code,
    } in cases
    {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = desk.kindpack(&args);
        command.envs(env);
        let run = sound(Running::start(command).wait(), &args);
        let sent = socket.requests();
        if run.code != code || !sent.is_empty() {
            wrong.push(format!(
                "{what} ({}): expected exit {code} and nothing sent, found {} and {sent:?}",
                args.join(" "),
                run.brief()
            ));
        }
        socket.requests.lock().unwrap().clear();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn counting_socket_hears_requests() {
    let desk = TestDir::new();
    desk.pack(&managed().source);
    let socket = Socket::open();
    let run = desk.run(&[
        "restore",
        "set.zip",
        "--target",
        &format!("emulator:shop-test@{}", socket.host),
    ]);
    assert_ne!(run.code, 0);
    assert!(
        socket
            .requests()
            .iter()
            .any(|line| line.contains("/v1/projects/shop-test:")),
        "{:?}",
        socket.requests()
    );
    assert_eq!(
        json!(
            socket
                .requests()
                .iter()
                .filter(|line| line.contains(":commit"))
                .count()
        ),
        json!(0),
        "nothing is written unasked"
    );
}
