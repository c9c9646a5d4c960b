//! Calls that are tried again, with growing pauses, while that can help.
//!
//! Knows how often and how long; must not know how a call is made.

use std::time::Duration;

use tokio::time::Instant;

use crate::target::TargetError;

/// How often a call is tried.
const TRIES: u32 = 6;

/// The first pause; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Longer words of a service are cut: they may go on with what is nobody's business.
const WORDS_MAX_CHARS: usize = 200;

/// Makes a call until it is answered, or no try is left. An attempt that may succeed later says what came instead of an answer.
pub(super) async fn patiently<T, F>(call: &str, attempt: impl Fn() -> F) -> Result<T, TargetError>
where
    F: Future<Output = Result<T, String>>,
{
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut tries = 0;
    loop {
        tries += 1;
        let found = match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(found) => found,
        };
        if tries == TRIES {
            return Err(TargetError::Service { call: call.to_owned(), tries, seconds: begun.elapsed().as_secs(), found });
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// A call that was refused: `status` by the protocol, `words` by the service.
pub(super) fn rejected(call: String, status: &str, words: &str) -> TargetError {
    let words: String = masked(words.lines().next().unwrap_or_default()).chars().take(WORDS_MAX_CHARS).collect();
    TargetError::Rejected { call, found: format!("{status} {words}").trim_end().to_owned() }
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
