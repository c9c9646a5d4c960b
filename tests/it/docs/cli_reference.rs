//! `docs/cli.md` names each command and each option of the program, and no others.

use std::collections::BTreeSet;

use clap::Command;

use super::assert_none;
use super::markdown::Document;

/// The commands in headings, and the options in the tables below them.
fn reference_names(document: &Document) -> BTreeSet<String> {
    let mut commands: Vec<&str> = Vec::new();
    let mut found = BTreeSet::new();
    for line in document.text.lines() {
        if line.starts_with('#') {
            commands = commands_of_heading(line);
            found.extend(commands.iter().map(|command| (*command).to_owned()));
        }
        for option in options_of_row(line) {
            found.extend(
                commands
                    .iter()
                    .map(|command| format!("{command} --{option}")),
            );
        }
    }
    found
}

/// The commands that a heading names, such as ``### `kindpack pack` ``.
fn commands_of_heading(line: &str) -> Vec<&str> {
    let code = line.split('`').skip(1).step_by(2);
    code.filter_map(|code| code.strip_prefix("kindpack"))
        .map(str::trim)
        .collect()
}

/// The long options in the first column of a table.
fn options_of_row(line: &str) -> impl Iterator<Item = &str> {
    let row = line.strip_prefix("| ").filter(|row| row.starts_with("`-"));
    let first = row.and_then(|row| row.split(" | ").next());
    let words = first.unwrap_or_default().split(['`', ' ', ',']);
    words.filter_map(|word| word.strip_prefix("--"))
}

/// What the reference has to name of a command and of those below it.
fn program_names(command: &Command, path: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([path.to_owned()]);
    let options = command
        .get_arguments()
        .filter(|arg| !arg.is_global_set() || path.is_empty());
    let options = options.filter_map(|arg| arg.get_long());
    all.extend(options.map(|long| format!("{path} --{long}")));
    for below in command
        .get_subcommands()
        .filter(|below| below.get_name() != "help")
    {
        all.extend(program_names(
            below,
            format!("{path} {}", below.get_name()).trim_start(),
        ));
    }
    all
}

#[test]
fn reference_names_all_commands_and_options() {
    let expected = program_names(&kindpack::cli::command(), "");
    // A command that only holds others has no section of its own.
    let expected: BTreeSet<String> = expected
        .into_iter()
        .filter(|name| name != "config")
        .collect();
    let documented = reference_names(&Document::read("docs/cli.md"));
    let missing = expected.difference(&documented);
    let missing = missing.map(|name| format!("not in docs/cli.md: {name}"));
    let invented = documented.difference(&expected);
    let invented = invented.map(|name| format!("only in docs/cli.md: {name}"));
    assert_none(&missing.chain(invented).collect::<Vec<_>>());
}

#[test]
fn readme_names_every_command() {
    let readme = Document::read("README.md");
    let tree = kindpack::cli::command();
    let names = tree
        .get_subcommands()
        .map(|command| format!("kindpack {}", command.get_name()));
    let names = names.filter(|name| name != "kindpack help");
    let is_named = |name: &String| {
        readme
            .code
            .iter()
            .any(|code| code.starts_with(name.as_str()))
    };
    assert_none(&names.filter(|name| !is_named(name)).collect::<Vec<_>>());
}
