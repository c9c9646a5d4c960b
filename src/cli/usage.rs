//! Wrong arguments: what clap says of them, in our own words where those help more.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::exit::ExitCode;
use super::output;
use super::text::Text;
use crate::model::{TargetSpec, nearest_name};
use crate::store::is_bucket_address;

/// What clap says of wrong arguments, also as an event where events are requested.
pub fn report(error: &clap::Error) -> std::process::ExitCode {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    match error.kind() {
        // A reader of the help may have seen enough of it.
        DisplayHelp | DisplayVersion => {
            error.print().ok();
            return ExitCode::Done.into();
        }
        DisplayHelpOnMissingArgumentOrSubcommand => drop(error.print()),
        _ => print_usage(error),
    }
    if std::env::args_os().any(|arg| arg == "--json") {
        output::print_event(&usage_event(&usage_text(error)));
    }
    ExitCode::Usage.into()
}

/// The last event of a command whose arguments are wrong. What clap says is a sentence, then
/// paragraphs with values, tips and the usage.
fn usage_event(text: &str) -> serde_json::Value {
    let mut paragraphs = text.split("\n\n").map(one_line);
    let sentence = paragraphs.next().unwrap_or_default();
    let hint: Vec<String> = paragraphs.collect();
    let mut event = serde_json::json!({
        "event": "failed", "code": ExitCode::Usage as u8, "error": sentence, "reasons": [sentence],
    });
    if let Some(fields) = event.as_object_mut().filter(|_| !hint.is_empty()) {
        fields.insert("hint".to_owned(), hint.join("; ").into());
    }
    event
}

/// A paragraph on one line.
fn one_line(paragraph: &str) -> String {
    let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
    lines.join(" ").trim().to_owned()
}

fn print_usage(error: &clap::Error) {
    let text = format!("kindpack: command line: {}", usage_text(error));
    output::print_error(Text::lines(text.lines()));
}

/// What clap says, without its own prefix. Of a value that cannot be read our own sentence says
/// all; clap would repeat the value.
fn usage_text(error: &clap::Error) -> String {
    let own = invalid_value(error).or_else(|| missing_target(error));
    own.unwrap_or_else(|| {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        with_own_tip(error, text)
    })
}

/// What clap says, with a tip of our own where there is a better one. Clap's tip to pass an unknown
/// option as a value helps nobody.
fn with_own_tip(error: &clap::Error, text: &str) -> String {
    let tip = own_tip(error);
    let is_useless = |text: &str| {
        let text = text.trim_start();
        text.starts_with("tip: to pass '") || (tip.is_some() && text.starts_with("tip: "))
    };
    let text = text
        .split("\n\n")
        .filter(|paragraph| !is_useless(paragraph));
    let mut paragraphs: Vec<String> = text.map(|text| text.trim_end().to_owned()).collect();
    if let Some(tip) = &tip {
        paragraphs.insert(1.min(paragraphs.len()), format!("  tip: {tip}"));
    }
    paragraphs.join("\n\n")
}

/// What to write instead of an argument or a command that is not known.
fn own_tip(error: &clap::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            command_tip(&context_text(error, ContextKind::InvalidSubcommand)?)
        }
        ErrorKind::MissingRequiredArgument => {
            lacks_policy(error).then(|| "say what to keep, such as --keep-daily 7".to_owned())
        }
        _ => argument_tip(&context_text(error, ContextKind::InvalidArg)?),
    }
}

/// Whether `prune` was typed without what it keeps.
fn lacks_policy(error: &clap::Error) -> bool {
    let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else {
        return false;
    };
    missing.iter().any(|arg| arg.contains("--keep-last"))
}

/// A text that clap keeps with an error.
fn context_text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// What to write instead of a command that is not known. Of one after `help` clap knows no similar
/// one.
fn command_tip(found: &str) -> Option<String> {
    let first = std::env::args().nth(1);
    match first.as_deref() {
        Some("version") => return Some("write --version".to_owned()),
        Some("import" | "load") => {
            return Some("a similar subcommand exists: 'restore'".to_owned());
        }
        Some("export" | "dump") => return Some("a similar subcommand exists: 'backup'".to_owned()),
        Some("help") => {}
        _ => return None,
    }
    let root = super::command();
    let names: Vec<&str> = root
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    let nearest = nearest_name(found, names)?;
    Some(format!("a similar subcommand exists: '{nearest}'"))
}

fn is_target(word: &str) -> bool {
    let mut prefixes = TargetSpec::PREFIXES.iter();
    prefixes.any(|prefix| word.starts_with(prefix))
}

/// What to write instead of an argument that is not known.
fn argument_tip(found: &str) -> Option<String> {
    match found {
        "--force" if has_option("overwrite") => Some("write --overwrite".to_owned()),
        "-n" if has_option("dry-run") => Some("write --dry-run".to_owned()),
        found if is_target(found) && has_option("target") => {
            Some(format!("write --target {found}"))
        }
        found if is_expanded_pattern(found) => Some(
            "quote patterns, so that the shell does not expand them: --only 'NAMESPACE/*'"
                .to_owned(),
        ),
        found if has_option("target") => {
            let target = first_argument().filter(|first| is_target(first))?;
            Some(format!("write {found} --target {target}"))
        }
        _ => None,
    }
}

/// Whether an argument is one of several files that a shell has put in the place of a pattern.
fn is_expanded_pattern(found: &str) -> bool {
    let mut words = std::env::args();
    let has_selector = words.any(|word| ["--only", "--exclude"].contains(&word.as_str()));
    has_selector && std::path::Path::new(found).exists()
}

/// The word after the command.
fn first_argument() -> Option<String> {
    let root = super::command();
    let mut words = std::env::args_os().skip(1);
    words.find(|word| root.find_subcommand(word).is_some())?;
    words.next()?.into_string().ok()
}

/// Whether the command that was typed has a long option.
fn has_option(long: &str) -> bool {
    let root = super::command();
    let mut words = std::env::args_os().skip(1);
    let command = words.find_map(|word| root.find_subcommand(word).cloned());
    command.is_some_and(|command| {
        let mut options = command.get_arguments();
        options.any(|option| option.get_long() == Some(long))
    })
}

/// The sentence of a value that cannot be read.
fn invalid_value(error: &clap::Error) -> Option<String> {
    let source = std::error::Error::source(error)?.to_string();
    let arg = context_text(error, ContextKind::InvalidArg)?;
    let value = context_text(error, ContextKind::InvalidValue)?;
    let name = arg.split(' ').next().unwrap_or(&arg);
    let name = name.trim_matches(['<', '>', '[', ']', '.']);
    Some(if let Some(fault) = number_fault(&source, &value) {
        format!("{name}: {fault}")
    } else if source.contains(value.as_str()) {
        format!("{name}: {source}{}", order_tip(name, &value))
    } else {
        format!("{name} {value:?}: {source}")
    })
}

/// The sentence of `--target` without a value. Clap would show the words before the colon alone.
fn missing_target(error: &clap::Error) -> Option<String> {
    let arg = context_text(error, ContextKind::InvalidArg)?;
    let value = context_text(error, ContextKind::InvalidValue)?;
    let is_target = arg.starts_with("--target") && value.is_empty();
    let is_target = is_target && error.kind() == ErrorKind::InvalidValue;
    is_target.then(|| format!("--target has no value: write {}", TargetSpec::FORMS))
}

/// What is wrong with a number, where Rust or clap says so in words of their own.
fn number_fault(source: &str, value: &str) -> Option<String> {
    if source == "number too large to fit in target type" {
        return Some(format!("{value} is too large"));
    }
    let is_no_number = [
        "invalid digit found in string",
        "number would be zero for non-zero type",
    ];
    if is_no_number.contains(&source) {
        return Some(format!("{value:?} is not a whole number of at least 1"));
    }
    let (_, range) = source.split_once(" is not in ")?;
    let (least, most) = range.split_once("..")?;
    Some(match most.strip_prefix('=') {
        Some(most) => format!("{value} is out of range: write a number from {least} to {most}"),
        None => format!("{value} is out of range: write a whole number of at least {least}"),
    })
}

/// What to do where the arguments of `backup` were typed in another order.
fn order_tip(name: &str, value: &str) -> &'static str {
    let is_place = is_bucket_address(value) || value.starts_with(['.', '/']);
    if name == "FROM" && is_place {
        "\n\n  tip: FROM comes first: kindpack backup FROM EXPORTS ARCHIVE"
    } else {
        ""
    }
}
