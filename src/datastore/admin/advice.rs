//! What to do about a refusal of an export or an import, by the words with which Google's services
//! refuse. Pure.

use crate::datastore::status::Code;

const BILLING: &str = "Enable billing for the project: exports and imports need it.";
const LOCATION: &str = "Use a bucket in the location of the database.";
const REQUESTER_PAYS: &str =
    "Use a bucket whose owner pays: exports and imports do not work with requester-pays buckets.";
const BUCKET_ACCESS: &str = "Grant the role Storage Admin on the bucket to the service agent of the database, service-PROJECT_NUMBER@gcp-sa-firestore.iam.gserviceaccount.com (older projects: PROJECT@appspot.gserviceaccount.com).";
const BUCKET: &str = "Create the bucket in the location of the database, or correct its name.";
const API: &str = "Enable the API in the project: gcloud services enable datastore.googleapis.com firestore.googleapis.com.";
const SNAPSHOT: &str = "Choose a whole minute in the past that the database still keeps: within the last hour, or within seven days after point-in-time recovery was enabled (gcloud firestore databases update --enable-pitr).";
const DATABASE: &str = "Correct the project or the database, or create the database.";
const NAME_TAKEN: &str = "Choose another place for the exports: something is there already.";
const CALLER: &str = "Grant the role Cloud Datastore Import Export Admin (roles/datastore.importExportAdmin) to the account that runs kindpack.";

/// Words of the services in lower case, and what to do about them. The first that is found counts.
const BY_WORDS: [(&str, &str); 18] = [
    ("requester pays", REQUESTER_PAYS),
    ("billing", BILLING),
    ("can only operate on buckets spanning location", LOCATION),
    ("storage.buckets.", BUCKET_ACCESS),
    ("storage.objects.", BUCKET_ACCESS),
    ("google cloud storage bucket", BUCKET_ACCESS),
    ("gcp-sa-firestore", BUCKET_ACCESS),
    ("bucket does not exist", BUCKET),
    ("invalid bucket name", BUCKET),
    ("has not been used in project", API),
    ("point-in-time", SNAPSHOT),
    ("point in time", SNAPSHOT),
    ("pitr", SNAPSHOT),
    ("snapshot", SNAPSHOT),
    ("earliest_version_time", SNAPSHOT),
    ("read_time", SNAPSHOT),
    ("database", DATABASE),
    ("already exists", NAME_TAKEN),
];

/// A sentence that begins with a verb; none where nothing is known to help.
pub(super) fn advice(code: Code, words: &str) -> Option<&'static str> {
    let words = words.to_ascii_lowercase();
    let by_words = BY_WORDS
        .into_iter()
        .find(|(known, _)| words.contains(known))
        .map(|(_, advice)| advice);
    match code {
        Code::PermissionDenied => by_words.or(Some(CALLER)),
        Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound | Code::AlreadyExists => {
            by_words
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_refusals_have_advice() {
        use Code::{FailedPrecondition, InvalidArgument, NotFound, PermissionDenied};
        for (code, words, advised) in [
            (
                InvalidArgument,
                "Bucket b is in location us. This database can only operate on buckets spanning location asia or asia-northeast3.",
                LOCATION,
            ),
            (
                PermissionDenied,
                "service-1@gcp-sa-firestore.iam.gserviceaccount.com does not have storage.buckets.get access to the Google Cloud Storage bucket.",
                BUCKET_ACCESS,
            ),
            (
                PermissionDenied,
                "This API method requires billing to be enabled. Please enable billing on project #shop",
                BILLING,
            ),
            (
                PermissionDenied,
                "The caller does not have permission",
                CALLER,
            ),
            (PermissionDenied, "", CALLER),
            (
                InvalidArgument,
                "Bucket is a requester pays bucket but no user project provided.",
                REQUESTER_PAYS,
            ),
            (
                FailedPrecondition,
                "The requested snapshot version is too old.",
                SNAPSHOT,
            ),
            (
                NotFound,
                "The database (default) does not exist for project shop",
                DATABASE,
            ),
            (NotFound, "The specified bucket does not exist.", BUCKET),
        ] {
            assert_eq!(advice(code, words), Some(advised), "{words}");
        }
    }

    #[test]
    fn transient_and_unknown_refusals_have_no_advice() {
        assert_eq!(advice(Code::Unavailable, "billing"), None);
        assert_eq!(advice(Code::InvalidArgument, "something new"), None);
    }
}
