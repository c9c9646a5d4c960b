//! What services answer over HTTP.

use kindpack::datastore::app_engine::{CountCall, is_reserved};
use kindpack::datastore::status::{Status, key_of_json, mutation_results};
use kindpack::fuzzing;
use kindpack::model::KindRef;

/// Stands in bodies of the corpus for what belongs to somebody.
const PRIVATE: &str = "marzipan";

/// Each status that means something to kindpack.
const STATUSES: [u16; 12] = [200, 400, 401, 403, 404, 408, 409, 412, 429, 500, 501, 503];

/// The body of an answer. No message quotes it.
pub fn answers(body: &[u8]) {
    Status::parse(body);
    mutation_results(body);
    is_reserved(body, 1);
    count(body);
    if let Ok(key) = serde_json::from_slice(body) {
        key_of_json(&key);
    }
    fuzzing::read_query_page(body);
    let shown = STATUSES.map(|status| fuzzing::read_listing(status, body));
    let shown = shown.into_iter().chain(fuzzing::read_import(body));
    for message in shown {
        assert!(!message.contains(PRIVATE), "{message}");
    }
}

/// A count whose answers are always the same one.
fn count(answer: &[u8]) {
    let (mut call, _) = CountCall::start("shop", &KindRef::new("", "Order"));
    for _ in 0..3 {
        call.receive(answer);
    }
}
