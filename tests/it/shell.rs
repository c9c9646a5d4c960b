//! What a shell and `man` get: completion scripts and manual pages.

use std::collections::BTreeSet;
use std::fs;

use crate::support::{Run, Running, TestDir, outside_program, sound};

fn outside(desk: &TestDir, program: &str, args: &[&str]) -> Run {
    sound(Running::start(desk.program(program, args)).wait(), args)
}

/// What bash offers for the last of these words.
fn offered(desk: &TestDir, words: &[&str]) -> BTreeSet<String> {
    let list = words.join("' '");
    let last = words.len() - 1;
    let script = format!(
        "source kindpack.bash; COMP_WORDS=('{list}'); COMP_CWORD={last}; \
         _kindpack_prefixes kindpack '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words[last],
        words[last - 1]
    );
    let run = outside(desk, "bash", &["--norc", "-c", &script]);
    run.text().lines().map(str::to_owned).collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn bash_offers_values_of_choices() {
    if outside_program("bash", &["bash"], "completions in bash").is_none() {
        return;
    }
    let desk = TestDir::new();
    let script = desk.expect(0, &["completions", "bash"]);
    desk.write("kindpack.bash", &script.out);
    for (words, values) in [
        (
            &["restore", "--on-existing", ""][..],
            &["fail", "merge", "replace"][..],
        ),
        (&["plan", "a.zip", "--via", ""], &["commit", "import"]),
        (&["restore", "a.zip", "--check", "c"], &["counts"]),
        (&["pack", "a", "b", "--method", ""], &["deflate", "store"]),
        (
            &["extract", "a", "b", "--format", ""],
            &["original", "managed"],
        ),
        (
            &["plan", "a.zip", "--target", ""],
            &["emulator:", "datastore:", "dir:", "ndjson:"],
        ),
        (&["plan", "a.zip", "--target", "nd"], &["ndjson:"]),
    ] {
        let line = [&["kindpack"], words].concat();
        assert_eq!(offered(&desk, &line), set(values), "{line:?}");
    }
}

#[test]
fn every_shell_gets_the_forms_of_targets() {
    let desk = TestDir::new();
    for (shell, form) in [
        ("bash", "emulator: datastore: dir: ndjson:"),
        ("zsh", r"(emulator\: datastore\: dir\: ndjson\:)"),
        ("fish", "datastore:\\t"),
        ("elvish", "--on-existing"),
        ("powershell", "--on-existing"),
    ] {
        let script = desk.expect(0, &["completions", shell]).text();
        assert!(script.contains(form), "{shell}: {form}");
    }
}

/// The manual pages by their names.
fn pages(desk: &TestDir) -> Vec<(String, String)> {
    desk.expect(0, &["man", "man1"]);
    let files = fs::read_dir(desk.path("man1")).unwrap();
    let read = |file: fs::DirEntry| {
        let text = fs::read_to_string(file.path()).unwrap();
        (file.file_name().into_string().unwrap(), text)
    };
    files.map(|file| read(file.unwrap())).collect()
}

/// The pages that a page refers to, such as `kindpack-pack(1)`.
fn referred(text: &str) -> BTreeSet<String> {
    let text = text.replace("\\-", "-");
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    let names = words.filter_map(|word| word.strip_suffix("(1)"));
    names.map(|name| format!("{name}.1")).collect()
}

#[test]
fn every_manual_page_has_all_sections() {
    let desk = TestDir::new();
    for (name, text) in pages(&desk) {
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXAMPLES",
            "\"EXIT STATUS\"",
            "\"SEE ALSO\"",
        ] {
            assert!(
                text.contains(&format!("\n.SH {section}\n")),
                "{name}: {section}"
            );
        }
        assert!(!text.contains("EXTRA"), "{name}");
    }
}

#[test]
fn every_page_that_is_named_is_written() {
    let desk = TestDir::new();
    let pages = pages(&desk);
    let written: BTreeSet<String> = pages.iter().map(|(name, _)| name.clone()).collect();
    assert!(written.len() > 16, "{written:?}");
    let mut reached = set(&["kindpack.1"]);
    for (name, text) in &pages {
        let referred = referred(text);
        assert!(referred.is_subset(&written), "{name}: {referred:?}");
        reached.extend(referred);
    }
    assert_eq!(reached, written);
}

#[test]
fn manual_pages_render_without_warnings() {
    if outside_program("man", &["groff"], "manual pages in groff").is_none() {
        return;
    }
    let desk = TestDir::new();
    for (name, _) in pages(&desk) {
        let page = format!("man1/{name}");
        let run = outside(&desk, "groff", &["-man", "-ww", "-Tutf8", &page]);
        assert_eq!(run.err, "", "{name}");
    }
}
