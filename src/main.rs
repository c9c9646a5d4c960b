//! The program: everything is in the library, the command line's wording in `cli`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
