//! What stands below the options of each command, in `--help` and in the manual: examples, exit
//! codes and related commands.

use std::fmt::Write as _;

use crate::cli::exit::EXIT_CODES;

/// Longer examples take several lines.
const MAX_EXAMPLE: usize = 70;

/// A command line, and what it does.
#[derive(Debug)]
pub struct Example {
    pub about: &'static str,
    /// As it is typed; the parser accepts it.
    pub line: &'static str,
}

/// What helps to use a command.
#[derive(Debug)]
pub struct Guide {
    /// The command, such as `config check`; empty for the program itself.
    pub command: &'static str,
    pub examples: &'static [Example],
    /// Related commands.
    pub see_also: &'static [&'static str],
}

const fn example(about: &'static str, line: &'static str) -> Example {
    Example { about, line }
}

/// One for each command.
pub static GUIDES: [Guide; 19] = [
    Guide {
        command: "",
        examples: &[
            example("See it work on a bundled backup:", "kindpack demo"),
            example(
                "Pack last night's exports into one archive:",
                "kindpack pack gs://shop-exports/2026-11-22/ gs://shop-archive/",
            ),
            example(
                "Check the newest archive:",
                "kindpack verify gs://shop-archive/",
            ),
            example(
                "Restore it into the emulator:",
                "kindpack restore gs://shop-archive/ --target emulator:shop",
            ),
        ],
        see_also: &["demo", "backup", "pack", "verify", "plan", "restore"],
    },
    Guide {
        command: "demo",
        examples: &[example("Show all steps:", "kindpack demo")],
        see_also: &["pack", "plan", "restore"],
    },
    Guide {
        command: "backup",
        examples: &[
            example(
                "Back up a project; the archive gets a name with the date:",
                "kindpack backup datastore:shop gs://shop-exports/nightly/ gs://shop-archive/",
            ),
            example(
                "Show what would be exported and what it costs:",
                "kindpack backup datastore:shop gs://shop-exports/nightly/ gs://shop-archive/ --dry-run",
            ),
            example(
                "Leave a kind out, delete the exports afterwards, keep two weeks of archives:",
                "kindpack backup datastore:shop gs://shop-exports/nightly/ gs://shop-archive/ --exclude Session --delete-exports --keep-daily 14",
            ),
            example(
                "Send an email when a backup fails:",
                "kindpack backup datastore:shop gs://shop-exports/nightly/ gs://shop-archive/ --notify-on failure --notify-mail-to ops@example.com --notify-mail-from backups@example.com --notify-mail-host smtp.example.com",
            ),
            example(
                "Run the backups that kindpack.toml describes:",
                "kindpack backup",
            ),
            example(
                "Run one of them:",
                "kindpack backup --config /etc/kindpack.toml --app shop",
            ),
        ],
        see_also: &["config check", "pack", "prune", "verify"],
    },
    Guide {
        command: "pack",
        examples: &[
            example(
                "Pack the exports in a bucket; the archive gets a name with the date:",
                "kindpack pack gs://shop-exports/2026-11-22/ gs://shop-archive/",
            ),
            example(
                "Check that a backup is complete, without writing anything:",
                "kindpack pack exports backup.zip --dry-run",
            ),
            example(
                "Wait up to two hours until each kind in kinds.txt is exported:",
                "kindpack pack gs://shop-exports/2026-11-22/ backup.zip --expect kinds.txt --wait 2h",
            ),
            example(
                "Pack the images of the shop, too:",
                "kindpack pack exports backup.zip --with gs://shop-images/",
            ),
        ],
        see_also: &["backup", "list", "verify"],
    },
    Guide {
        command: "list",
        examples: &[
            example("List the kinds in an archive:", "kindpack list backup.zip"),
            example(
                "List those in the newest archive of a bucket:",
                "kindpack list gs://shop-archive/",
            ),
            example(
                "Print the manifest as JSON:",
                "kindpack list backup.zip --json",
            ),
        ],
        see_also: &["archives", "cat", "verify"],
    },
    Guide {
        command: "archives",
        examples: &[
            example(
                "List all archives in a bucket:",
                "kindpack archives gs://shop-archive/",
            ),
            example(
                "List those of the default namespace:",
                "kindpack archives gs://shop-archive/ --namespace '(default)'",
            ),
        ],
        see_also: &["list", "prune"],
    },
    Guide {
        command: "verify",
        examples: &[
            example("Check every byte:", "kindpack verify backup.zip"),
            example(
                "Check only that the archive is complete:",
                "kindpack verify gs://shop-archive/ --quick",
            ),
            example(
                "Check a zip made by another tool:",
                "kindpack verify other.zip --any-zip",
            ),
        ],
        see_also: &["list", "rehearse"],
    },
    Guide {
        command: "cat",
        examples: &[
            example(
                "Print all orders of namespace acme:",
                "kindpack cat backup.zip acme/Order",
            ),
            example(
                "Count the orders of the default namespace:",
                "kindpack cat backup.zip '(default)/Order' | wc -l",
            ),
        ],
        see_also: &["list", "extract"],
    },
    Guide {
        command: "extract",
        examples: &[
            example(
                "Write the exports back as files:",
                "kindpack extract backup.zip exports",
            ),
            example(
                "Convert a legacy backup for Google's import:",
                "kindpack extract backup.zip gs://shop-staging/import/ --format managed",
            ),
        ],
        see_also: &["cat", "restore"],
    },
    Guide {
        command: "plan",
        examples: &[
            example(
                "Show the order of a restore into the emulator:",
                "kindpack plan backup.zip --target emulator:shop",
            ),
            example(
                "Save a plan, to read it and to run it later:",
                "kindpack plan backup.zip --target datastore:shop-staging -o plan.json",
            ),
            example(
                "Restore orders with everything that they need, and hide email addresses:",
                "kindpack plan backup.zip --target emulator:shop --only Order --with-dependencies --redact Customer.email=hash",
            ),
            example(
                "Show why a kind has its place in the order:",
                "kindpack plan backup.zip --target emulator:shop --explain Order",
            ),
        ],
        see_also: &["restore", "status"],
    },
    Guide {
        command: "restore",
        examples: &[
            example(
                "Restore the newest archive of a bucket into the emulator:",
                "kindpack restore gs://shop-archive/ --target emulator:shop",
            ),
            example("Run a saved plan:", "kindpack restore plan.json"),
            example(
                "Restore into a real project:",
                "kindpack restore backup.zip --target datastore:shop-staging --confirm shop-staging",
            ),
            example(
                "Write every entity as JSON, one file per kind:",
                "kindpack restore backup.zip --target ndjson:entities",
            ),
        ],
        see_also: &["plan", "status", "rehearse"],
    },
    Guide {
        command: "rehearse",
        examples: &[
            example(
                "Prove that the newest archive can be restored:",
                "kindpack rehearse gs://shop-archive/",
            ),
            example(
                "Write a report for a CI system:",
                "kindpack rehearse backup.zip --report rehearsal.xml",
            ),
        ],
        see_also: &["restore", "verify"],
    },
    Guide {
        command: "status",
        examples: &[
            example("Show which steps are done:", "kindpack status plan.json"),
            example(
                "Check in a script that a restore is complete:",
                "kindpack status plan.json --require-complete --quiet",
            ),
        ],
        see_also: &["plan", "restore"],
    },
    Guide {
        command: "report",
        examples: &[
            example(
                "Write a page about an archive, and look at it in a browser:",
                "kindpack report backup.zip -o backup.html",
            ),
            example(
                "About the newest archive of a bucket:",
                "kindpack report gs://shop-archive/ -o backup.html",
            ),
            example(
                "About a plan, and how far its restore is:",
                "kindpack report plan.json -o plan.html",
            ),
        ],
        see_also: &["list", "plan", "status"],
    },
    Guide {
        command: "prune",
        examples: &[
            example(
                "Show what would be removed:",
                "kindpack prune gs://shop-archive/ --keep-daily 14 --keep-monthly 12 --dry-run",
            ),
            example(
                "Keep the last 30 archives:",
                "kindpack prune gs://shop-archive/ --keep-last 30",
            ),
        ],
        see_also: &["archives", "backup"],
    },
    Guide {
        command: "config",
        examples: &[example("Check kindpack.toml:", "kindpack config check")],
        see_also: &["backup", "restore"],
    },
    Guide {
        command: "config check",
        examples: &[
            example("Check kindpack.toml:", "kindpack config check"),
            example(
                "Check another file, and list its buckets:",
                "kindpack config check --config /etc/kindpack.toml --online",
            ),
        ],
        see_also: &["backup"],
    },
    Guide {
        command: "completions",
        examples: &[
            example(
                "Bash:",
                "kindpack completions bash > ~/.local/share/bash-completion/completions/kindpack",
            ),
            example(
                "Zsh, with ~/.zfunc in $fpath:",
                "kindpack completions zsh > ~/.zfunc/_kindpack",
            ),
            example(
                "Fish:",
                "kindpack completions fish > ~/.config/fish/completions/kindpack.fish",
            ),
        ],
        see_also: &["man"],
    },
    Guide {
        command: "man",
        examples: &[example(
            "Install the manual pages for one user:",
            "kindpack man ~/.local/share/man/man1",
        )],
        see_also: &["completions"],
    },
];

/// The guide of a command.
pub fn guide(command: &str) -> Option<&'static Guide> {
    GUIDES.iter().find(|guide| guide.command == command)
}

/// What stands below the options of a command.
pub fn after_help(command: &str) -> String {
    let mut text = "Examples:\n".to_owned();
    let examples = guide(command).map_or(&[][..], |guide| guide.examples);
    for (number, Example { about, line }) in examples.iter().enumerate() {
        let gap = if number > 0 { "\n" } else { "" };
        let lines = wrapped(line).join(" \\\n      ");
        write!(text, "{gap}  {about}\n    {lines}\n").ok();
    }
    text
}

/// A command line in pieces that fit, each option with its value in one piece.
pub fn wrapped(line: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for part in parts(line) {
        match pieces.last_mut() {
            Some(last) if last.len() + part.len() < MAX_EXAMPLE => {
                last.push(' ');
                last.push_str(part);
            }
            _ => pieces.push(part.to_owned()),
        }
    }
    pieces
}

/// What a line may be broken between: words before the first option, then options with their
/// values.
fn parts(line: &str) -> impl Iterator<Item = &str> {
    let (words, options) = line.split_at(line.find(" --").unwrap_or(line.len()));
    let option_ends = options
        .match_indices(" --")
        .skip(1)
        .map(|(index, _)| index)
        .chain([options.len()]);
    let mut begin = 0;
    let options = option_ends.map(move |end| {
        let option = options[begin..end].trim_start();
        begin = end;
        option
    });
    words
        .split(' ')
        .chain(options.filter(|option| !option.is_empty()))
}

/// What stands below the options of the program.
pub fn main_help() -> String {
    let mut text = after_help("");
    text.push_str("\nExit codes:\n");
    for (code, meaning) in EXIT_CODES {
        writeln!(text, "  {code:>8}  {meaning}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::args::Cli;

    /// The words of a command line, without what a shell does with its output.
    fn words(line: &str) -> Vec<String> {
        let line = line.split(" | ").next().unwrap_or(line);
        let line = line.split(" > ").next().unwrap_or(line);
        line.split(' ')
            .map(|word| word.trim_matches('\'').to_owned())
            .collect()
    }

    #[test]
    fn every_example_is_a_command_line() {
        for Guide {
            command, examples, ..
        } in &GUIDES
        {
            for example in *examples {
                let parsed = Cli::try_parse_from(words(example.line));
                assert!(parsed.is_ok(), "{}: {}", example.line, parsed.unwrap_err());
                let start = format!("kindpack {command}");
                assert!(example.line.starts_with(start.trim_end()), "{start}");
            }
        }
    }

    /// All commands below one, by their full names.
    fn names_below(command: &clap::Command, prefix: &str) -> Vec<String> {
        let mut names = Vec::new();
        for sub in command.get_subcommands() {
            let name = format!("{prefix}{}", sub.get_name());
            names.extend(names_below(sub, &format!("{name} ")));
            names.push(name);
        }
        names
    }

    #[test]
    fn every_command_has_examples_and_relatives() {
        let mut names = names_below(&Cli::command(), "");
        for Guide {
            command,
            see_also,
            examples,
        } in &GUIDES
        {
            assert!(!examples.is_empty(), "{command}");
            assert!(
                see_also
                    .iter()
                    .all(|name| names.contains(&(*name).to_owned()))
            );
        }
        names.push(String::new());
        names.sort();
        let mut guided: Vec<&str> = GUIDES.iter().map(|guide| guide.command).collect();
        guided.sort_unstable();
        assert_eq!(guided, names);
    }

    #[test]
    fn short_help_fits_a_screen() {
        let mut root = Cli::command().term_width(80);
        root.build();
        for command in std::iter::once(&root).chain(root.get_subcommands()) {
            let long = command.clone().term_width(80).render_long_help();
            let examples = long.to_string();
            let examples = examples.split("Examples:").nth(1).unwrap_or_default();
            assert!(examples.lines().all(|line| line.len() <= 80), "{examples}");
            // The whole line, or a line that the shell continues: never one that clap has cut.
            for example in guide(command.get_name()).map_or(&[][..], |guide| guide.examples) {
                let lines = wrapped(example.line).join(" \\\n      ");
                assert!(examples.contains(&lines), "{lines}\n{examples}");
            }
            let help = command.clone().term_width(80).render_help().to_string();
            let lines = help.lines().count();
            assert!(lines <= 45, "{}: {lines} lines\n{help}", command.get_name());
            assert!(
                help.lines().all(|line| line.chars().count() <= 80),
                "{help}"
            );
        }
    }
}
