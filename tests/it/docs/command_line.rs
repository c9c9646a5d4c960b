//! Command lines in blocks of code: each is one that the program understands.

use clap::Command;

use super::markdown::Block;
use super::{assert_none, user_documents};

/// The words after `kindpack`, for every command line in a block.
pub fn command_lines(block: &Block) -> Vec<Vec<String>> {
    let text = block.text.replace("\\\n", " ");
    let lines = text.lines().filter_map(|line| command_of(line, block));
    lines.filter_map(kindpack_words).collect()
}

/// The command in a line of a block: a transcript has it after `$ `.
fn command_of<'a>(line: &'a str, block: &Block) -> Option<&'a str> {
    match block.language.as_str() {
        "console" => line.strip_prefix("$ "),
        "sh" | "" => Some(line.trim_start()),
        _ => None,
    }
}

/// The words of `kindpack …` in a line of shell, up to a pipe or the end of the command.
fn kindpack_words(line: &str) -> Option<Vec<String>> {
    if !line.split_whitespace().any(|word| word == "kindpack") {
        return None;
    }
    let words = shlex::split(line).unwrap_or_else(|| panic!("not a command line: {line}"));
    let start = words.iter().position(|word| word == "kindpack")?;
    let is_program = words[..start].iter().all(|word| word.contains('='));
    let is_end = |word: &String| matches!(word.as_str(), "|" | ";" | "&&" | "||" | ">" | "2>&1");
    let words = words[start..].iter().take_while(|word| !is_end(word));
    is_program.then(|| words.cloned().collect())
}

/// What the program says against a command line.
fn complaint(words: &[String]) -> Option<String> {
    let parsed = kindpack::cli::command().try_get_matches_from(words);
    let error = parsed.err()?;
    let is_help = matches!(
        error.kind(),
        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion
    );
    (!is_help).then(|| error.to_string())
}

#[test]
fn every_command_line_is_understood() {
    let mut problems = Vec::new();
    let mut count = 0;
    for document in user_documents() {
        for words in document.blocks.iter().flat_map(command_lines) {
            count += 1;
            let complaint = complaint(&words);
            problems.extend(complaint.map(|error| format!("{}: {error}", document.name)));
        }
    }
    assert_none(&problems);
    assert!(count > 40, "only {count} command lines were found");
}

/// The (sub)command that the words after `kindpack` name.
pub fn subcommand<'a>(tree: &'a Command, words: &[&str]) -> Option<&'a Command> {
    let found = tree.find_subcommand(words.first()?)?;
    let deeper = words.get(1).and_then(|word| found.find_subcommand(word));
    Some(deeper.unwrap_or(found))
}
