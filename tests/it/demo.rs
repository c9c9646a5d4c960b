//! `kindpack demo`: on a machine that has nothing (no Java, no gcloud, no emulator), and with an
//! emulator; and the backup that it carries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kindpack::datastore::emulator as installed;
use unicode_width::UnicodeWidthStr as _;

use crate::support::emulator::{emulator, other_emulator_slot};
use crate::support::entities::{assert_same, of_lines};
use crate::support::fixtures::{fixture, shop};
use crate::support::{PROGRAM, Run, Running, TestDir, files_below, outside_program, skip, sound};

/// Columns of a terminal that nobody has made wider.
const WIDTH: usize = 80;

/// Lines of one step: about those of such a terminal.
const HEIGHT: usize = 26;

/// The folder of a demo on most systems.
const FOLDER: &str = "/tmp/kindpack-demo-a1b2c3";

/// A demo whose folder is below `tmp`.
fn command(desk: &TestDir, options: &[&str]) -> Command {
    fs::create_dir_all(desk.path("tmp")).unwrap();
    let args: Vec<&str> = ["demo"].iter().chain(options).copied().collect();
    let mut command = desk.kindpack(&args);
    command.env("TMPDIR", desk.path("tmp"));
    command
}

/// Runs the demo with nothing on PATH.
pub fn demo(desk: &TestDir, options: &[&str]) -> Run {
    fs::create_dir_all(desk.path("nothing")).unwrap();
    let mut command = command(desk, options);
    command
        .env("PATH", desk.path("nothing"))
        .env_remove("JAVA_HOME");
    let run = sound(Running::start(command).wait(), &["demo"]);
    assert_eq!(run.code, 0, "{}", run.brief());
    run
}

/// The folder that a demo has left.
pub fn folder(desk: &TestDir) -> PathBuf {
    let names = desk.names_in("tmp");
    assert_eq!(names.len(), 1, "{names:?}");
    desk.path("tmp").join(&names[0])
}

/// What a demo has said, each long line in one again: it goes on where four blanks begin a line.
pub fn unwrapped(said: &str) -> String {
    let is_end = |line: &str| line.starts_with("    ") && !line.starts_with("     ");
    let mut lines: Vec<String> = Vec::new();
    for line in said.lines() {
        match lines.last_mut() {
            Some(last) if is_end(line) => {
                last.truncate(last.trim_end_matches(" \\").len());
                last.push_str(&line[3..]);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

/// The commands that a demo has shown, each with what stands below it.
fn commands(said: &str) -> Vec<(String, String)> {
    let said = unwrapped(said);
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in said.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push((command.to_owned(), String::new()));
        } else if let Some((_, output)) = commands.last_mut() {
            output.push_str(line);
            output.push('\n');
        }
    }
    commands
}

/// The numbered steps of a demo.
fn steps(said: &str) -> Vec<String> {
    let number = |line: &str| line.split_once(". ")?.0.parse::<u32>().ok();
    let mut steps: Vec<String> = Vec::new();
    for line in said.lines() {
        if number(line).is_some() {
            steps.push(String::new());
        }
        if let Some(step) = steps.last_mut() {
            step.push_str(line);
            step.push('\n');
        }
    }
    steps
}

/// Types a line as a user would who has followed the demo's first words.
fn type_again(desk: &TestDir, folder: &Path, line: &str) -> Run {
    let program = Path::new(PROGRAM).parent().unwrap().display();
    let script = format!("PATH='{program}':\"$PATH\"; {line}");
    let mut shell = desk.program("sh", &["-c", &script]);
    shell.current_dir(folder);
    Running::start(shell).wait()
}

#[test]
fn demo_runs_without_anything_installed() {
    let desk = TestDir::new();
    let run = demo(&desk, &[]);
    let said = run.text();
    let shown: Vec<String> = commands(&said).into_iter().map(|(line, _)| line).collect();
    for command in [
        "kindpack list backup.zip",
        "kindpack verify backup.zip",
        "kindpack verify damaged.zip",
        "kindpack plan backup.zip --target ndjson:copy --only 'berlin/*' -o plan.json",
        "kindpack restore plan.json",
    ] {
        assert!(
            shown.iter().any(|line| line == command),
            "{command} is not shown:\n{said}"
        );
    }
    assert!(
        said.contains("Left out: a restore into Google's Datastore emulator"),
        "{said}"
    );
    let folder = folder(&desk);
    assert!(said.contains(folder.to_str().unwrap()), "{said}");
    for name in ["backup.zip", "backup.zip.sha256", "plan.json.journal"] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    assert_eq!(files_below(&folder.join("copy")).len(), 9);
}

#[test]
fn silent_emulator_is_left_out_of_demo() {
    let desk = TestDir::new();
    let mut command = command(&desk, &[]);
    command.env("DATASTORE_EMULATOR_HOST", "127.0.0.1:1");
    let run = sound(Running::start(command).wait(), &["demo"]);
    let said = unwrapped(&run.text());
    assert_eq!(run.code, 0, "{}", run.brief());
    assert!(said.contains("nothing answers at 127.0.0.1:1"), "{said}");
}

#[test]
fn demo_output_fits_a_terminal() {
    let desk = TestDir::new();
    let said = demo(&desk, &[]).text();
    // The folder and the program have names of any length.
    let named = |line: &&str| line.starts_with("  cd ") || line.starts_with("  alias ");
    for line in said.lines().filter(|line| !named(line)) {
        assert!(line.width() <= WIDTH, "{line}");
    }
    let (steps, folder) = (steps(&unwrapped(&said)), folder(&desk));
    assert_eq!(steps.len(), 8);
    for step in steps {
        let step = step.replace(folder.to_str().unwrap(), FOLDER);
        let lines = step.trim_end().lines();
        let height: usize = lines.map(|it| it.width().div_ceil(WIDTH).max(1)).sum();
        assert!(height <= HEIGHT, "{height} lines:\n{step}");
    }
    assert!(said.contains("\n… and 8 more\n"), "{said}");
}

#[test]
fn demo_warns_of_nothing() {
    let desk = TestDir::new();
    let run = demo(&desk, &[]);
    assert!(!run.text().contains("warning"), "{}", run.text());
    assert_eq!(run.err, "");
    let source = shop().to_str().unwrap().to_owned();
    desk.pack(&source);
    let plan = desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    assert_eq!(plan["steps"].as_array().unwrap().len(), 18);
    assert_eq!(plan["warnings"].as_array().map_or(0, Vec::len), 0);
    assert_eq!(plan["cycles"].as_array().unwrap().len(), 2);
}

#[test]
fn demo_commands_can_be_typed_again() {
    let desk = TestDir::new();
    let said = demo(&desk, &[]).text();
    let folder = folder(&desk);
    let damaged = fs::read(folder.join("damaged.zip")).unwrap();
    for name in desk.names_in(folder.to_str().unwrap()) {
        if name != "exports" {
            let path = folder.join(name);
            let removed = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            removed.unwrap();
        }
    }
    for (line, shown) in commands(&said) {
        let run = type_again(&desk, &folder, &line);
        let is_refused = line == "kindpack verify damaged.zip";
        assert_eq!(run.code, if is_refused { 4 } else { 0 }, "{line}");
        assert!(!is_refused || shown.contains("exit code is 4"), "{shown}");
        if line.contains("head -n 1") {
            assert_eq!(
                without_blanks(&shown),
                without_blanks(&run.text()),
                "{line}"
            );
        }
    }
    assert_eq!(fs::read(folder.join("damaged.zip")).unwrap(), damaged);
    assert!(folder.join("copy/berlin/Customer.ndjson").is_file());
}

/// A text without what breaks it into lines.
fn without_blanks(text: &str) -> String {
    let (text, _) = text.split_once("\n\n").unwrap_or((text, ""));
    text.split_whitespace().collect()
}

#[test]
fn demo_damages_one_byte_and_names_the_entry() {
    let desk = TestDir::new();
    let said = demo(&desk, &[]).text();
    let folder = folder(&desk);
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let (backup, damaged) = (read("backup.zip"), read("damaged.zip"));
    let changed = backup.iter().zip(&damaged).filter(|(a, b)| a != b).count();
    assert_eq!((backup.len(), changed), (damaged.len(), 1));
    let verify = |(line, _): &(String, String)| line == "kindpack verify damaged.zip";
    let (_, shown) = commands(&said).into_iter().find(verify).unwrap();
    assert!(
        without_blanks(&shown).contains("kind_Order/output-0"),
        "{shown}"
    );
}

#[test]
fn demo_masks_personal_data() {
    let desk = TestDir::new();
    let said = demo(&desk, &[]).text();
    let folder = folder(&desk);
    let read = |name: &str| fs::read(folder.join(name).join("berlin/Customer.ndjson")).unwrap();
    let customers = of_lines(&read("copy"));
    assert_eq!(customers.len(), 20);
    let masked = String::from_utf8(read("masked")).unwrap();
    for customer in &customers {
        for property in ["name", "email", "phone"] {
            let value = customer["properties"][property]["stringValue"].as_str();
            assert!(!masked.contains(value.unwrap()), "{property}");
        }
    }
    assert_eq!(of_lines(masked.as_bytes()).len(), 20);
    assert!(said.contains(r#""email":{"stringValue":"****"#), "{said}");
}

#[test]
fn demo_restores_into_a_running_emulator() {
    let Some(emulator) = emulator("the demo in a running emulator") else {
        return;
    };
    let desk = TestDir::new();
    let mut command = command(&desk, &["--json"]);
    command.env("DATASTORE_EMULATOR_HOST", &emulator.host);
    let run = sound(Running::start(command).wait(), &["demo"]);
    assert_eq!(run.code, 0, "{}", run.brief());
    assert_eq!(run.last_event()["emulator"], true);
    let name = folder(&desk).file_name().unwrap().to_owned();
    let project = name.to_str().unwrap().to_lowercase();
    assert_eq!(emulator.query(&project, "lyon", "OrderLine").len(), 51);
}

#[test]
fn demo_rehearses_in_an_installed_emulator() {
    let found = match installed::find(None) {
        Ok(found) => found,
        Err(error) => return skip("emulator", "the demo's rehearsal", &error.to_string()),
    };
    let _slot = other_emulator_slot();
    let desk = TestDir::new();
    let run = sound(Running::start(command(&desk, &[])).wait(), &["demo"]);
    assert_eq!(run.code, 0, "{}", run.brief());
    let said = run.text();
    assert!(said.contains("$ kindpack rehearse backup.zip\n"), "{said}");
    let place = format!("18 steps with 445 entities in the {}", found.product());
    assert!(unwrapped(&said).contains(&place), "{said}");
}

#[test]
fn demo_speaks_json_a_line_an_event() {
    let desk = TestDir::new();
    let run = demo(&desk, &["--json"]);
    let last = run.last_event();
    assert_eq!(
        (&last["event"], &last["emulator"]),
        (&"done".into(), &false.into())
    );
    assert_eq!(Path::new(last["folder"].as_str().unwrap()), folder(&desk));
    // The same said quietly.
    let desk = TestDir::new();
    demo(&desk, &["--quiet"]);
}

#[test]
fn bundled_backup_is_whole_and_small() {
    let desk = TestDir::new();
    let source = shop();
    let files = files_below(&source);
    let bytes: u64 = files.values().map(|it| it.metadata().unwrap().len()).sum();
    assert!(bytes < 300 << 10, "{bytes}");
    // Cargo packages no name with one of these.
    let is_odd = |c: char| r#":*?"<>|\"#.contains(c);
    assert!(!files.keys().any(|name| name.contains(is_odd)), "{files:?}");
    let packed = desk.pack(source.to_str().unwrap());
    assert_eq!(
        (&packed["kinds"], &packed["entities"]),
        (&18.into(), &445.into())
    );
    let verified = desk.json(0, &["verify", "set.zip"]);
    assert_eq!(verified["problems"].as_array().unwrap().len(), 0);
}

#[test]
fn bundled_backup_matches_its_generator() {
    let test = "the generator of the demo's backup";
    let Some(python) = outside_program("python", &["python3"], test) else {
        return;
    };
    let desk = TestDir::new();
    let made = desk.program(python, &[&fixture("shop/make.py"), "entities"]);
    let made = Running::start(made).wait();
    assert_eq!(made.code, 0, "{}", made.brief());
    desk.pack(shop().to_str().unwrap());
    let packed = desk.expect(0, &["cat", "set.zip", "*/*"]);
    assert_same(&of_lines(&made.out), &of_lines(&packed.out), false, test);
}
