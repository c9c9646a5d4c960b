//! Characters that are no letters: they steer a terminal, and they turn lines and pages around.

/// Text with all escaped that steers a terminal, or turns the order of letters around.
pub fn escape_control(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            escaped.extend(c.escape_default())
        } else {
            escaped.push(c)
        }
    }
    escaped
}

/// Whether a terminal or a page would take a character for more than a letter: control characters, line
/// separators, marks of the direction.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_characters_that_steer_are_escaped() {
        assert_eq!(escape_control("a\u{7}\u{202e}b"), r"a\u{7}\u{202e}b");
        assert_eq!(escape_control("Größe 価格表"), "Größe 価格表");
    }
}
