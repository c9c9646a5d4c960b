//! A service's own words, as far as they may be told. Pure.

use crate::google;

/// A service's words in one short line, without what they quote.
pub(super) fn told(words: &str) -> String {
    masked(&google::one_line(words))
}

/// A service's words without what it quotes: that may be a key or a value. Names of kinds and properties stay.
fn masked(words: &str) -> String {
    let mut out = String::new();
    for (number, part) in words.split('"').enumerate() {
        let quoted = number % 2 == 1;
        let is_name = out.ends_with("property \"") || out.ends_with("kind \"");
        out.push_str(if quoted && !is_name { "…" } else { part });
        out.push('"');
    }
    out.pop();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_quotes_is_not_told_unless_it_is_the_name_of_a_kind_or_property() {
        let words = r#"The value of property "mail" is longer than 1500 bytes: "ann@example.com"."#;
        assert_eq!(masked(words), r#"The value of property "mail" is longer than 1500 bytes: "…"."#);
        assert_eq!(masked(r#"The kind "__bad__" is reserved."#), r#"The kind "__bad__" is reserved."#);
        assert_eq!(masked("nothing quoted"), "nothing quoted");
    }
}
