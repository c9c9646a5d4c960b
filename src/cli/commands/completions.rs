//! `kindpack completions SHELL`: made from the definition of the command line.

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::json;

use crate::cli::args::Cli;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::output;

/// Keeps bash from adding a blank after `emulator:` and its like.
const BASH_PREFIXES: &str = r#"
_kindpack_prefixes() {
    _kindpack "$@"
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *: ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _kindpack_prefixes -o bashdefault -o default kindpack
"#;

/// Prints the completion script of a shell.
pub fn run(context: &Context, shell: Shell) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kindpack", &mut script);
    if shell == Shell::Bash {
        script.extend(BASH_PREFIXES.bytes());
    }
    let script = String::from_utf8_lossy(&script);
    if !context.ui.is_json() {
        output::print_raw(&script);
    }
    context
        .ui
        .done(json!({"shell": shell.to_string(), "script": script}));
    Ok(ExitCode::Done)
}
