//! `kindpack completions SHELL` and `kindpack man DIR`: made from the definition of the command
//! line.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::json;

use crate::cli::args::Cli;
use crate::cli::failure::{Code, Failure};
use crate::cli::{Context, Ended, output};
use crate::runtime::working_file::write_file;

/// Prints the completion script of a shell.
pub fn completions(context: &Context, shell: Shell) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kindpack", &mut script);
    let script = String::from_utf8_lossy(&script);
    if !context.ui.is_json() {
        output::print_raw(&script);
    }
    context
        .ui
        .done(json!({"shell": shell.to_string(), "script": script}));
    Ok(Code::Done)
}

/// Writes a page for the program and one for each command.
pub fn man(context: &Context, dir: &Path) -> Ended {
    const WHAT: &str = "cannot write manual pages";
    fs::create_dir_all(dir).map_err(|error| Failure::io(WHAT, dir.display(), &error))?;
    let command = Cli::command();
    let mut names = Vec::new();
    let pages = std::iter::once(("kindpack".to_owned(), command.clone()));
    let commands = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    for (name, command) in pages.chain(
        commands.map(|command| (format!("kindpack-{}", command.get_name()), command.clone())),
    ) {
        let path = dir.join(format!("{name}.1"));
        let mut page = Vec::new();
        // Without a date, so that the same version makes the same pages.
        clap_mangen::Man::new(command.name(name.clone()))
            .date("")
            .render(&mut page)
            .map_err(|error| Failure::io(WHAT, path.display(), &error))?;
        write_file(&path, &page).map_err(|error| Failure::io(WHAT, path.display(), &error))?;
        names.push(path.display().to_string());
    }
    context.ui.say(format!(
        "Wrote {} pages below {}; read one with: man -l {}",
        names.len(),
        dir.display(),
        names.first().map_or("", String::as_str)
    ));
    context.ui.done(json!({"pages": names}));
    Ok(Code::Done)
}
