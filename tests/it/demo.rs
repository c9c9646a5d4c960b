//! `kindpack demo` on a machine that has nothing: no Java, no gcloud, no emulator.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Run, Running, TestDir, files_below};

/// Runs the demo with nothing on PATH and its folder below the desk.
fn demo(desk: &TestDir, options: &[&str]) -> Run {
    fs::create_dir_all(desk.path("nothing")).unwrap();
    fs::create_dir_all(desk.path("tmp")).unwrap();
    let args: Vec<&str> = ["demo"].iter().chain(options).copied().collect();
    let mut command = desk.kindpack(&args);
    command
        .env("PATH", desk.path("nothing"))
        .env("TMPDIR", desk.path("tmp"))
        .env_remove("JAVA_HOME");
    crate::support::sound(Running::start(command).wait(), &args)
}

fn folder(desk: &TestDir) -> PathBuf {
    let names = desk.names_in("tmp");
    assert_eq!(names.len(), 1, "{names:?}");
    desk.path("tmp").join(&names[0])
}

#[test]
fn demo_runs_without_anything_installed() {
    let desk = TestDir::new();
    let run = demo(&desk, &[]);
    assert_eq!(run.code, 0, "{}", run.brief());
    let said = run.text();
    for command in [
        "pack exports backup.zip",
        "list backup.zip",
        "verify backup.zip",
        "plan backup.zip --target ndjson:restored -o plan.json",
        "restore plan.json",
    ] {
        assert!(
            said.lines()
                .any(|line| line == format!("$ kindpack {command}")),
            "{command} is not shown:\n{said}"
        );
    }
    assert!(
        said.contains("Left out: a restore into Google's Datastore emulator"),
        "{said}"
    );
    assert!(said.contains("258 entities"), "{said}");

    let folder = folder(&desk);
    assert!(
        said.contains(folder.to_str().unwrap()),
        "it says where all of it is:\n{said}"
    );
    for name in [
        "backup.zip",
        "backup.zip.sha256",
        "plan.json",
        "plan.json.journal",
    ] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    assert_eq!(files_below(&folder.join("restored")).len(), 27);
    let place = |command: &str| said.find(&format!("$ kindpack {command}")).unwrap();
    let after = |what: &str| {
        said.find(what)
            .unwrap_or_else(|| panic!("{what:?} is not said:\n{said}"))
    };
    assert!(
        place("pack") < after("sha256") && place("list") < after("NAMESPACE"),
        "what a command says stands below it:\n{said}"
    );
}

#[test]
fn what_the_demo_shows_can_be_typed_again() {
    let desk = TestDir::new();
    let said = demo(&desk, &[]).text();
    let folder = folder(&desk);
    let exports = folder.join("exports");
    for name in fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| *path != exports)
    {
        fs::remove_dir_all(&name)
            .or_else(|_| fs::remove_file(&name))
            .unwrap();
    }
    for line in said
        .lines()
        .filter_map(|line| line.strip_prefix("$ kindpack "))
    {
        let args: Vec<&str> = line.split(' ').collect();
        let mut command = desk.kindpack(&args);
        command.current_dir(&folder);
        let run = Running::start(command).wait();
        assert_eq!(run.code, 0, "{line}: {}", run.brief());
    }
    assert!(folder.join("restored/acme/Customer.ndjson").is_file());
}

#[test]
fn the_demo_speaks_json_a_line_an_event() {
    let desk = TestDir::new();
    let run = demo(&desk, &["--json"]);
    assert_eq!(run.code, 0, "{}", run.brief());
    let last = run.last_event();
    assert_eq!(
        (&last["event"], &last["emulator"]),
        (&"done".into(), &false.into())
    );
    assert_eq!(Path::new(last["folder"].as_str().unwrap()), folder(&desk));
    // The same said quietly.
    let desk = TestDir::new();
    let run = demo(&desk, &["--quiet"]);
    assert_eq!(run.code, 0, "{}", run.brief());
}
