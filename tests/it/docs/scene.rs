//! Runs the blocks of a document, one after another in one folder, and compares what they print
//! with what the document shows.
//!
//! A block of `sh` must succeed. In a block of `console` each `$ COMMAND` must print the lines
//! below it; a line `…` stands for any number of lines. Comments before a block say what it needs:
//!
//! - `<!-- needs: service -->`: Google's own service; such a block is not run;
//! - `<!-- needs: bucket -->`: the tests' own Cloud Storage, with the exports in
//!   `gs://shop-exports/nightly/`;
//! - `<!-- needs: emulator -->`: the Datastore emulator; any other word is a program;
//! - `<!-- file: NAME -->`: the block, in any language, is written into that file;
//! - `<!-- before: COMMAND -->`: what happens before, out of the reader's sight;
//! - `<!-- run: no -->`: it cannot be run by a test;
//! - `<!-- exit: 3 -->`: how the last command of the block ends, if not well.
//!
//! `INSTA_UPDATE=always cargo test --test it docs::` writes what is printed into the documents.

use std::fs;
use std::ops::Range;
use std::path::Path;

use super::markdown::{Block, Document};
use super::{assert_none, root, user_documents};
use crate::snapshots::without_seconds;
use crate::support::emulator::{Emulator, emulator};
use crate::support::gcs_server::GcsServer;
use crate::support::{PROGRAM, Run, Running, TestDir, copy_folder, outside_program};

/// The exports that every document starts with.
const EXPORTS: &str = "fixtures/shop/exports";

/// The buckets that documents use.
const BUCKETS: [&str; 6] = [
    "shop-exports",
    "shop-archive",
    "shop-images",
    "museum-archive",
    "museum-exports",
    "museum-images",
];

/// The emulator and the project of the documents.
const HOST: &str = "localhost:8081";
const PROJECT: &str = "shop-test";

/// One command of a block, and the lines that it is to print.
struct Step {
    command: String,
    output: Option<String>,
}

/// Where the commands of one document run.
struct Scene {
    desk: TestDir,
    server: GcsServer,
    emulator: Option<&'static Emulator>,
    project: String,
}

/// The commands of a block.
fn steps(block: &Block) -> Vec<Step> {
    if block.language != "console" {
        let command = block.text.clone();
        return vec![Step {
            command,
            output: None,
        }];
    }
    let mut steps: Vec<Step> = Vec::new();
    for line in block.text.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step {
                command: command.to_owned(),
                output: Some(String::new()),
            }),
            (None, Some(step)) => step.push_line(line),
            (None, None) => panic!("a transcript begins with a command: {line}"),
        }
    }
    steps
}

impl Step {
    fn push_line(&mut self, line: &str) {
        let is_continued = self.command.ends_with('\\');
        let output = self.output.as_mut().filter(|_| !is_continued);
        let text = output.unwrap_or(&mut self.command);
        text.push_str(if is_continued { "\n" } else { "" });
        text.push_str(line);
        text.push_str(if is_continued { "" } else { "\n" });
    }
}

/// What is printed, cut where what was shown is cut, and with an empty line at its end if that has
/// one.
fn cut_like(shown: &str, printed: &str) -> String {
    let gap = if format!("\n{shown}").ends_with("\n\n") {
        "\n"
    } else {
        ""
    };
    let lines: Vec<&str> = shown.trim_end().lines().collect();
    let (first, last) = (
        lines_before_cut(lines.iter()),
        lines_before_cut(lines.iter().rev()),
    );
    let (Some(head), Some(tail)) = (first, last) else {
        return format!("{printed}{gap}");
    };
    let printed: Vec<&str> = printed.lines().collect();
    let tail = printed.len().saturating_sub(tail).max(head);
    let cut = [
        &printed[..head.min(printed.len())],
        &["…"],
        &printed[tail.min(printed.len())..],
    ];
    format!("{}\n{gap}", cut.concat().join("\n"))
}

/// How many lines come before the first that is cut.
fn lines_before_cut<'a>(mut lines: impl Iterator<Item = &'a &'a str>) -> Option<usize> {
    lines.position(|line| *line == "…")
}

#[test]
fn accepted_output_is_cut_as_before() {
    assert_eq!(cut_like("1\n…\n9\n\n", "a\nb\nc\nd\n"), "a\n…\nd\n\n");
    assert_eq!(cut_like("1\n", "a\nb\n"), "a\nb\n");
}

/// Text in which the names of kept plans, which depend on the folder, are short.
fn without_hashes(text: &str) -> String {
    let mut parts = text.split("/state/kindpack/");
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        short.push_str("/state/kindpack/…");
        short.push_str(rest);
    }
    short
}

/// Whether text is what is shown, where a line `…` stands for any lines.
fn matches(shown: &str, printed: &str) -> bool {
    let printed = without_seconds(printed.trim_end());
    let shown = without_seconds(shown.trim_end());
    let parts: Vec<&str> = shown.split("…\n").collect();
    let Some((first, rest)) = parts.split_first() else {
        return false;
    };
    let Some(mut left) = printed.strip_prefix(first) else {
        return false;
    };
    let Some((last, middle)) = rest.split_last() else {
        return left.is_empty();
    };
    for part in middle {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last.trim_start_matches('…'))
}

#[test]
fn ellipsis_stands_for_any_lines() {
    assert!(matches("a\n…\nd", "a\nb\nc\nd\n"));
    assert!(matches("took 0.1 s", "took 2.0 s\n"));
    assert!(!matches("a\n…\ne", "a\nb\nc\nd"));
    assert!(!matches("a", "a\nb"));
}

impl Scene {
    fn new(document: &Document) -> Self {
        let desk = TestDir::new();
        copy_folder(&root().join(EXPORTS), &desk.path("exports"));
        let server = GcsServer::start(&BUCKETS);
        server.put_folder("shop-exports", "nightly/", &desk.path("exports"));
        server.put("shop-images", "1.jpg", &b"an image"[..]);
        let needs_emulator = document.blocks.iter().any(|block| block.needs("emulator"));
        let emulator = needs_emulator.then(|| emulator(&document.name)).flatten();
        let project = emulator.map_or(PROJECT.to_owned(), Emulator::fresh_project);
        Scene {
            desk,
            server,
            emulator,
            project,
        }
    }

    /// Writes a block that is the text of a file.
    fn write_file(&self, block: &Block) {
        let host = self.emulator.map_or(HOST, |emulator| &emulator.host);
        let text = block
            .text
            .replace(HOST, host)
            .replace(PROJECT, &self.project);
        for name in block.notes("file") {
            self.desk.write(name, &text);
        }
    }

    /// Whether a block can be run here.
    fn can_run(&self, document: &Document, block: &Block) -> bool {
        let needs: Vec<&str> = block.notes("needs");
        let mut needs = needs.into_iter().flat_map(str::split_whitespace);
        needs.all(|need| match need {
            "service" => false,
            "bucket" => true,
            "emulator" => self.emulator.is_some(),
            program => outside_program(program, &[program], &document.name).is_some(),
        })
    }

    fn run(&self, command: &str, block: &Block) -> Run {
        let host = self.emulator.map_or(HOST, |emulator| &emulator.host);
        let script = command.replace(HOST, host).replace(PROJECT, &self.project);
        let script = format!("exec 2>&1\n{script}");
        let mut sh = self.desk.program("sh", &["-eu", "-c", &script]);
        let program = Path::new(PROGRAM).parent().unwrap().display();
        sh.env(
            "PATH",
            format!("{program}:{}", std::env::var("PATH").unwrap()),
        );
        sh.env("REPO", root())
            .env("KINDPACK_REDACT_KEY", "the key of the documents");
        if block.needs("bucket") {
            sh.env("STORAGE_EMULATOR_HOST", self.server.url());
        }
        Running::start(sh).wait()
    }

    /// What a reader would see.
    fn printed(&self, run: &Run) -> String {
        let host = self.emulator.map_or(HOST, |emulator| &emulator.host);
        let state = self.desk.home().join("state").display().to_string();
        let text = run
            .text()
            .replace(host, HOST)
            .replace(&self.project, PROJECT);
        let text = text.replace(&state, "~/.local/state");
        without_hashes(&text.replace(self.desk.work().to_str().unwrap(), "/home/me"))
    }
}

/// A block as it is to be, and what is wrong.
#[derive(Default)]
struct Outcome {
    text: String,
    /// Commands that ended in another way than shown.
    failures: Vec<String>,
    /// Commands that printed something else.
    differences: Vec<String>,
}

impl Outcome {
    fn push(&mut self, step: &Step, printed: &str) {
        let Some(shown) = &step.output else {
            self.text.push_str(&step.command);
            return;
        };
        let is_same = matches(shown, printed);
        if !is_same {
            let difference = format!("$ {}\nprints:\n{printed}", step.command);
            self.differences.push(difference);
        }
        let now = match is_same {
            true => shown.clone(),
            false => cut_like(shown, printed),
        };
        self.text.push_str(&format!("$ {}\n{now}", step.command));
    }
}

/// Runs a block.
fn run_block(scene: &Scene, block: &Block) -> Outcome {
    for command in block.notes("before") {
        let run = scene.run(command, block);
        assert_eq!(run.code, 0, "{command}: {}", run.text());
    }
    let steps = steps(block);
    let exit = block
        .notes("exit")
        .first()
        .map_or(0, |code| code.parse().unwrap());
    let mut outcome = Outcome::default();
    for (number, step) in steps.iter().enumerate() {
        let expected = if number + 1 == steps.len() { exit } else { 0 };
        let run = scene.run(&step.command, block);
        let printed = scene.printed(&run);
        if run.code != expected {
            let failure = format!("{}: exit {}: {printed}", step.command, run.code);
            outcome.failures.push(failure);
        }
        outcome.push(step, &printed);
    }
    outcome
}

/// Whether a block is a sequence of commands to run.
fn is_runnable(block: &Block) -> bool {
    let is_shell = matches!(block.language.as_str(), "sh" | "console");
    is_shell && !block.needs("service") && block.notes("run") != ["no"]
}

/// Whether what is printed goes into the documents.
pub fn is_accepting() -> bool {
    std::env::var("INSTA_UPDATE").is_ok_and(|how| how == "always")
}

/// Runs a document.
fn check(name: &str) {
    let document = Document::read(name);
    let scene = Scene::new(&document);
    let mut changes = Vec::new();
    let mut problems = Vec::new();
    for block in &document.blocks {
        scene.write_file(block);
        if !is_runnable(block) || !scene.can_run(&document, block) {
            continue;
        }
        let outcome = run_block(&scene, block);
        problems.extend(outcome.failures);
        if is_accepting() {
            changes.push((block.range.clone(), outcome.text));
        } else {
            problems.extend(outcome.differences);
        }
    }
    assert_none(&problems);
    accept(&document, changes);
}

/// Writes blocks into the document.
pub fn accept(document: &Document, changes: Vec<(Range<usize>, String)>) {
    let mut text = document.text.clone();
    for (range, now) in changes.into_iter().rev() {
        text.replace_range(range, &now);
    }
    if text != document.text {
        fs::write(root().join(&document.name), text).unwrap();
    }
}

macro_rules! documents_that_run {
    ($($test:ident: $name:literal),* $(,)?) => {
        const RUN: &[&str] = &[$($name),*];
        $(
            #[test]
            fn $test() {
                check($name);
            }
        )*
    };
}

documents_that_run! {
    readme_runs_as_shown: "README.md",
    guide_runs_as_shown: "docs/guide.md",
    restore_runs_as_shown: "docs/restore.md",
    redaction_runs_as_shown: "docs/redaction.md",
    managed_import_runs_as_shown: "docs/managed-import.md",
    datastore_runs_as_shown: "docs/datastore.md",
    cloud_storage_runs_as_shown: "docs/cloud-storage.md",
    nightly_runs_as_shown: "docs/nightly.md",
    archive_format_runs_as_shown: "docs/archive-format.md",
    faq_runs_as_shown: "docs/faq.md",
    ci_runs_as_shown: "docs/ci.md",
}

#[test]
fn every_document_with_commands_is_run() {
    let documents = user_documents();
    let with_commands = documents.iter().filter(|document| {
        let mut blocks = document.blocks.iter().filter(|block| is_runnable(block));
        blocks.any(|block| !super::command_line::command_lines(block).is_empty())
    });
    let left_out = with_commands.filter(|document| !RUN.contains(&document.name.as_str()));
    let left_out: Vec<String> = left_out.map(|document| document.name.clone()).collect();
    assert_none(&left_out);
}
