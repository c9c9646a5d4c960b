//! Texts with wildcards, held against other texts.
//!
//! Knows the wildcards. How they are spelled, and what else a spelling divides, is each reader's
//! own affair.

/// One character of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PatternToken {
    /// Any characters, or none.
    AnyChars,
    /// One character.
    AnyChar,
    /// This character.
    Literal(char),
}

/// Whether all of `text` is what `pattern` says.
///
/// Linear in text × pattern: on a mismatch only the latest [`PatternToken::AnyChars`] takes one character more.
pub fn matches(pattern: &[PatternToken], text: &str) -> bool {
    let (mut rest, mut pattern) = (text.chars(), pattern);
    // Where to go on when nothing else fits: behind the latest `Any`, with one character more taken
    // by it.
    let mut star = None;
    loop {
        let mut ahead = rest.clone();
        match (pattern.split_first(), ahead.next()) {
            (Some((PatternToken::AnyChars, behind)), _) => {
                star = Some((behind, rest.clone()));
                pattern = behind;
            }
            (Some((PatternToken::AnyChar, behind)), Some(_)) => (rest, pattern) = (ahead, behind),
            (Some((PatternToken::Literal(want), behind)), Some(c)) if *want == c => {
                (rest, pattern) = (ahead, behind)
            }
            (None, None) => return true,
            _ => {
                let Some((behind, taken)) = &mut star else {
                    return false;
                };
                if taken.next().is_none() {
                    return false;
                }
                (rest, pattern) = (taken.clone(), behind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glyphs(text: &str) -> Vec<PatternToken> {
        let glyph = |c| match c {
            '*' => PatternToken::AnyChars,
            '?' => PatternToken::AnyChar,
            c => PatternToken::Literal(c),
        };
        text.chars().map(glyph).collect()
    }

    /// Slow and plain: by trying all.
    fn by_trying(pattern: &[PatternToken], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((PatternToken::AnyChars, behind)), _) => {
                (0..=text.len()).any(|taken| by_trying(behind, &text[taken..]))
            }
            (Some((PatternToken::AnyChar, behind)), Some((_, rest))) => by_trying(behind, rest),
            (Some((PatternToken::Literal(want), behind)), Some((c, rest))) => {
                want == c && by_trying(behind, rest)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_matches_what_trying_all_matches(pattern in "[ab*?ß]{0,8}", text in "[abß]{0,10}") {
            let chars: Vec<char> = text.chars().collect();
            prop_assert_eq!(matches(&glyphs(&pattern), &text), by_trying(&glyphs(&pattern), &chars));
        }
    }
}
