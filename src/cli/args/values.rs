//! How shares are written.

use crate::model::Sample;

/// `5%`: what has no percent sign is a limit, which has an option of its own.
pub fn share(text: &str) -> Result<Sample, String> {
    match text.parse() {
        Ok(share @ Sample::Share(_)) => Ok(share),
        Ok(Sample::Limit(number)) => Err(format!(
            "a share ends with %: write --sample {number}%, or --limit {number} for that many entities of each kind"
        )),
        Err(error) => Err(error.to_string()),
    }
}
