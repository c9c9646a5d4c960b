//! Names in running text: commands, options, files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::Command;

use super::command_line::subcommand;
use super::{assert_none, root, user_documents};

/// Options of other programs that documents speak of.
const FOREIGN_OPTIONS: [&str; 14] = [
    "--all-targets",
    "--auto_id_policy=SCATTERED",
    "--consistency",
    "--consistency=0.0",
    "--consistency=0.9",
    "--database-mode=datastore-mode",
    "--firestore_in_datastore_mode",
    "--import-data=FILE.overall_export_metadata",
    "--no-store-on-disk",
    "--nocapture",
    "--port=0",
    "--seed_from_export",
    "--store_on_disk=false DIR",
    "--testing",
];

/// Folders whose files documents name from the root of the repository.
const FOLDERS: [&str; 11] = [
    ".ci/",
    ".github/",
    "benches/",
    "deploy/",
    "docs/",
    "examples/",
    "fixtures/",
    "fuzz/",
    "src/",
    "tests/",
    "tools/",
];

/// The long options of a command and of all below it.
fn options(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|arg| arg.get_long());
    let own = own.map(|long| format!("--{long}"));
    let below = command.get_subcommands().flat_map(options);
    own.chain(below)
        .chain(["--help".to_owned(), "--version".to_owned()])
        .collect()
}

/// The option that a word begins with, without its value.
fn option_of(word: &str) -> Option<&str> {
    let word = word.trim_start_matches(['[', '(']);
    let is_option = word
        .strip_prefix("--")?
        .starts_with(|c: char| c.is_ascii_lowercase());
    let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    let option = end.map_or(word, |end| &word[..end]);
    is_option.then_some(option)
}

/// What is wrong with the names in a piece of code.
fn problem(tree: &Command, code: &str) -> Option<String> {
    let words: Vec<&str> = code.split_whitespace().collect();
    let known = match words.as_slice() {
        ["kindpack", name, ..] if is_command_name(name) => match subcommand(tree, &words[1..]) {
            Some(command) => &options(command) | &global_options(tree),
            None => return Some(format!("{code}: no such command")),
        },
        [first, ..] if first.starts_with("--") || *first == "kindpack" => options(tree),
        _ => return None,
    };
    let mut named = words.iter().filter_map(|word| option_of(word));
    let unknown = named.find(|option| !is_among(option, &known))?;
    Some(format!("{code}: {unknown} is no option"))
}

/// Whether an option exists; `--keep-` stands for all that begin so.
fn is_among(option: &str, known: &BTreeSet<String>) -> bool {
    let begins = |name: &String| option.ends_with('-') && name.starts_with(option);
    known.contains(option) || known.iter().any(begins)
}

fn is_command_name(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_lowercase())
}

fn global_options(tree: &Command) -> BTreeSet<String> {
    let global = tree.get_arguments().filter_map(|arg| arg.get_long());
    global.map(|long| format!("--{long}")).collect()
}

#[test]
fn every_option_in_the_text_exists() {
    let tree = kindpack::cli::command();
    let mut problems = Vec::new();
    for document in user_documents() {
        let usages = document
            .blocks
            .iter()
            .filter(|block| block.language == "text");
        let usages = usages.flat_map(|block| block.text.lines());
        let code = document.code.iter().map(String::as_str).chain(usages);
        let code = code.filter(|code| !FOREIGN_OPTIONS.contains(code));
        let found = code.filter_map(|code| problem(&tree, code));
        problems.extend(found.map(|problem| format!("{}: {problem}", document.name)));
    }
    assert_none(&problems);
}

/// Whether a piece of code is the path of a file in the repository.
fn is_path(code: &str) -> bool {
    let is_plain = !code.contains([' ', '<', '*', '…', '{', '$']);
    let is_source = code.ends_with(".rs") || code.ends_with(".rs:");
    is_plain && (FOLDERS.iter().any(|folder| code.starts_with(folder)) || is_source)
}

/// Modules are named from `src/` as well, files of fixtures from `fixtures/`.
fn exists(path: &str) -> bool {
    let path = path.trim_end_matches(':');
    ["", "src", "fixtures", "docs"]
        .iter()
        .any(|folder| root().join(folder).join(path).exists())
}

#[test]
fn every_file_in_the_text_exists() {
    let mut problems = Vec::new();
    for document in user_documents() {
        let paths = document.code.iter().filter(|code| is_path(code));
        let missing = paths.filter(|path| !exists(path));
        problems.extend(missing.map(|path| format!("{}: {path}: no such file", document.name)));
    }
    assert_none(&problems);
}

/// The filters of `cargo test --test it FILTER`.
fn test_filters(code: &str) -> Option<&str> {
    let filter = code.strip_prefix("cargo test --test it ")?;
    filter.split(' ').next()
}

/// All sources below a path, with their names.
fn sources_at(path: &Path) -> String {
    if !path.is_dir() {
        return fs::read_to_string(path).unwrap_or_default();
    }
    let entries = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| format!("{}\n{}", path.display(), sources_at(&path)))
        .collect()
}

#[test]
fn every_test_in_the_text_exists() {
    let sources = sources_at(&root().join("tests/it"));
    let documents = user_documents();
    let code = documents.iter().flat_map(|document| &document.code);
    let filters = code.filter_map(|code| test_filters(code));
    let is_missing = |filter: &&str| {
        let module = filter.trim_end_matches("::");
        let names = [
            format!("fn {filter}("),
            format!("/{module}.rs"),
            format!("/{module}/"),
        ];
        !names.iter().any(|name| sources.contains(name))
    };
    let missing: Vec<String> = filters.filter(is_missing).map(str::to_owned).collect();
    assert_none(&missing);
}

/// Whether a piece of code is an environment variable that kindpack reads or gives.
fn is_variable(code: &str) -> bool {
    let families = [
        "KINDPACK_",
        "CLOUDSDK_",
        "DATASTORE_",
        "STORAGE_",
        "XDG_",
        "NO_",
    ];
    let is_upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    families.iter().any(|family| code.starts_with(family)) && code.chars().all(is_upper)
}

#[test]
fn every_variable_in_the_text_exists() {
    let sources = ["src", "deploy"];
    let sources = sources.map(|path| sources_at(&root().join(path))).concat();
    let documents = user_documents();
    let code = documents.iter().flat_map(|document| &document.code);
    let variables: BTreeSet<&String> = code.filter(|code| is_variable(code)).collect();
    let is_in_sources = |name: &String| {
        ['"', '=']
            .map(|end| format!("{name}{end}"))
            .iter()
            .any(|text| sources.contains(text))
    };
    let missing = variables.into_iter().filter(|name| !is_in_sources(name));
    assert_none(&missing.cloned().collect::<Vec<_>>());
}
