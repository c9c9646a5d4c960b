//! The program; `kindpack::cli` is what it does.

fn main() -> std::process::ExitCode {
    kindpack::cli::main()
}
