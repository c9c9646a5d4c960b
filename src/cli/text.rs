//! Text that is safe to print: for a terminal, and for a shell.

use std::fmt;
use std::ops::Add;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::model::control::{escape_control, steers};

/// Text for a terminal. All that is printed for people is one: what others wrote becomes harmless
/// on the way into it, so it steers no terminal and begins no line. Only styles and line feeds of
/// our own stay as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Texts, one a line.
    pub fn lines(lines: impl IntoIterator<Item = impl Into<Text>>) -> Self {
        Text(
            lines
                .into_iter()
                .map(|line| line.into().0)
                .collect::<Vec<_>>()
                .join("\n"),
        )
    }

    pub fn painted(in_colour: bool, style: &str, text: &str) -> Self {
        let text = escape_control(text);
        Text(if in_colour {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text
        })
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(escape_control(text))
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl<T: Into<Text>> Add<T> for Text {
    type Output = Text;

    fn add(mut self, other: T) -> Text {
        self.0.push_str(&other.into().0);
        self
    }
}

/// A text that fits into so many columns; what is cut off at its end is shown by `…`.
pub fn shorten(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut room = columns.saturating_sub(1);
    let fits = |c: &char| {
        let width = c.width().unwrap_or_default();
        let fits = width <= room;
        room = room.saturating_sub(width);
        fits
    };
    let mut shortened: String = text.chars().take_while(fits).collect();
    if columns > 0 {
        shortened.push('…');
    }
    shortened
}

/// A word as a shell takes it.
pub fn shell_quote(word: &str) -> String {
    let plain = !word.is_empty()
        && word
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':' | '@' | '='));
    if plain {
        return word.to_owned();
    }
    if !word.chars().any(steers) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    // What no terminal shows as it is, as bash, ksh and zsh read it.
    let escaped = word.chars().map(|c| match c {
        '\'' | '\\' => format!("\\{c}"),
        c if steers(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    });
    format!("$'{}'", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_when_needed() {
        assert_eq!(
            shell_quote("out/default_backup_20131012063742.zip"),
            "out/default_backup_20131012063742.zip"
        );
        assert_eq!(shell_quote("my set's.zip"), r"'my set'\''s.zip'");
        assert_eq!(
            shell_quote("a\u{1b}[2J'\\\n\u{202e}"),
            r"$'a\u001b[2J\'\\\u000a\u202e'"
        );
    }

    #[test]
    fn texts_of_others_steer_no_terminal() {
        let hostile = "a\u{1b}[2J\u{9b}2J\u{7}\r\nb\u{202e}c\u{2028}\u{2066}\u{200f}";
        let escaped = r"a\u{1b}[2J\u{9b}2J\u{7}\r\nb\u{202e}c\u{2028}\u{2066}\u{200f}";
        assert_eq!(Text::from(hostile), Text(escaped.to_owned()));
        assert_eq!(
            Text::painted(true, "1", hostile),
            Text(format!("\x1b[1m{escaped}\x1b[0m"))
        );
        assert_eq!(
            Text::lines([hostile, "c"]) + hostile,
            Text(format!("{escaped}\nc{escaped}"))
        );
        assert_eq!(
            Text::from("Größe 価格表 \u{200d}"),
            Text("Größe 価格表 \u{200d}".to_owned())
        );
    }
}
