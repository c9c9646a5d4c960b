//! `kindpack man DIR`: made from the definition of the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use serde_json::json;

use crate::cli::args::{Cli, Example, guide, wrapped};
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::EXIT_CODES;
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::runtime::working_file::write_public_file;

/// Writes a page for the program and one for each command.
pub fn run(context: &Context, dir: &Path) -> CommandResult {
    fs::create_dir_all(dir).map_err(|error| Failure::io(dir.display(), &error))?;
    let mut names = Vec::new();
    for command in commands() {
        let path = write_page(&command, dir)?;
        names.push(path.display().to_string());
    }
    context.ui.info(format!(
        "Wrote {} pages to {}; read one with: man -l {}",
        names.len(),
        dir.display(),
        names.first().map_or("", String::as_str)
    ));
    context.ui.done(json!({"pages": names}));
    Ok(ExitCode::Done)
}

fn write_page(command: &clap::Command, dir: &Path) -> Result<PathBuf, Failure> {
    let path = dir.join(format!("{}.1", page_name(command)));
    let failed = |error: &io::Error| Failure::io(path.display(), error);
    let page = page(command).map_err(|error| failed(&error))?;
    write_public_file(&path, &page).map_err(|error| failed(&error))?;
    Ok(path)
}

/// The program and all its commands, with every option shown.
fn commands() -> Vec<clap::Command> {
    let mut root = with_all_options(Cli::command().disable_help_subcommand(true));
    root.build();
    let mut commands = Vec::new();
    add_with_subcommands(&root, &mut commands);
    commands
}

/// A manual shows what `-h` hides.
fn with_all_options(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| arg.hide_short_help(false))
        .mut_subcommands(with_all_options)
}

fn add_with_subcommands(command: &clap::Command, all: &mut Vec<clap::Command>) {
    all.push(command.clone());
    for sub in command.get_subcommands() {
        add_with_subcommands(sub, all);
    }
}

/// The name of a page, such as `kindpack-pack`.
fn page_name(command: &clap::Command) -> &str {
    command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
}

/// The page, without a date: the same version makes the same pages.
fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .source(concat!("kindpack ", env!("CARGO_PKG_VERSION")))
        .manual("kindpack manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(command).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    page.extend(options_section(&man)?.bytes());
    if command.get_subcommands().next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    ending(command).to_writer(&mut page)?;
    Ok(page)
}

/// The usage as the help shows it, without each option.
fn synopsis(command: &clap::Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim_start();
    let name = command.get_bin_name().unwrap_or_default();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    match usage.strip_prefix(name) {
        Some(rest) => roff.text([bold(name), roman(rest)]),
        None => roff.text([roman(usage)]),
    };
    roff
}

/// The options, with the groups below one heading.
fn options_section(man: &Man) -> io::Result<String> {
    let mut options = Vec::new();
    man.render_options_section(&mut options)?;
    let options = String::from_utf8_lossy(&options);
    let below = options.replace("\n.SH ", "\n.SS ");
    Ok(below.replacen("\n.SS OPTIONS", "\n.SH OPTIONS", 1))
}

/// The sections after the options.
fn ending(command: &clap::Command) -> Roff {
    let name = page_name(command);
    let spaced = name.trim_start_matches("kindpack").replace('-', " ");
    let guide = guide(spaced.trim_start());
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for Example { about, line } in guide.map_or(&[][..], |guide| guide.examples) {
        roff.control("PP", []);
        roff.text([roman(*about)]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        roff.text([bold(wrapped(line).join(" \\\n  "))]);
        roff.control("fi", []);
        roff.control("RE", []);
    }
    add_exit_status(&mut roff);
    let related = guide.map_or(&[][..], |guide| guide.see_also);
    add_see_also(&mut roff, name, related);
    roff
}

fn add_exit_status(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        roff.control("TP", ["10"]);
        roff.text([bold(code)]);
        roff.text([roman(meaning)]);
    }
}

fn add_see_also(roff: &mut Roff, name: &str, related: &[&str]) {
    roff.control("SH", ["SEE ALSO"]);
    let page = |command: &&str| format!("kindpack-{}(1)", command.replace(' ', "-"));
    let program = (name != "kindpack").then(|| "kindpack(1)".to_owned());
    let pages: Vec<String> = program
        .into_iter()
        .chain(related.iter().map(page))
        .collect();
    roff.text([roman(pages.join(", "))]);
}
