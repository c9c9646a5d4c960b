//! How shares are written.

use crate::model::Sample;

/// `5%`: what has no percent sign is a limit, which has an option of its own.
pub fn share(text: &str) -> Result<Sample, String> {
    match text.parse() {
        Ok(share @ Sample::Share(_)) => Ok(share),
        Ok(Sample::Limit(_)) => {
            Err("expected a share such as 5%, found a number; --limit takes one".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}
