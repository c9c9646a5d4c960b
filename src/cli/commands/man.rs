//! `kindpack man DIR`: made from the definition of the command line.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use serde_json::json;

use crate::cli::args::Cli;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::runtime::working_file::write_file;

/// Writes a page for the program and one for each command.
pub fn run(context: &Context, dir: &Path) -> CommandResult {
    fs::create_dir_all(dir).map_err(|error| Failure::io(dir.display(), &error))?;
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
            .map_err(|error| Failure::io(path.display(), &error))?;
        write_file(&path, &page).map_err(|error| Failure::io(path.display(), &error))?;
        names.push(path.display().to_string());
    }
    context.ui.info(format!(
        "Wrote {} pages below {}; read one with: man -l {}",
        names.len(),
        dir.display(),
        names.first().map_or("", String::as_str)
    ));
    context.ui.done(json!({"pages": names}));
    Ok(ExitCode::Done)
}
