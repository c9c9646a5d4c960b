//! The waiting gate on buckets: exports that appear and grow while the program polls.

use crate::cloud::fixture::{ARCHIVE, BucketFixture, SOURCE, discreet, last};
use crate::support::fixtures::managed;
use crate::support::gcs_server::Call;
use crate::support::{Running, sound};

/// Takes objects away that are to come later.
fn later(shop: &BucketFixture, wanted: impl Fn(&str) -> bool) -> Vec<(String, Vec<u8>)> {
    let names: Vec<String> = shop
        .server
        .names("shop")
        .into_iter()
        .filter(|name| wanted(name))
        .collect();
    assert!(!names.is_empty());
    let take = |name: String| {
        let bytes = shop.server.get("shop", &name).unwrap().bytes();
        shop.server.remove("shop", &name);
        (name, bytes)
    };
    names.into_iter().map(take).collect()
}

/// Puts objects there, those that say that an export is finished last, as the service does.
fn arrive(shop: &BucketFixture, mut objects: Vec<(String, Vec<u8>)>) {
    objects.sort_by_key(|(name, _)| {
        (
            name.ends_with(".overall_export_metadata"),
            name.ends_with(".export_metadata"),
        )
    });
    for (name, bytes) in objects {
        shop.server.put("shop", &name, bytes);
    }
}

fn waiting(shop: &BucketFixture, more: &[&str]) -> Running {
    shop.start(
        &[
            &["pack", SOURCE, ARCHIVE, "--wait", "90s", "--json"][..],
            more,
        ]
        .concat(),
    )
}

#[test]
fn pack_waits_for_expected_and_growing_exports() {
    let shop = BucketFixture::of_set(&managed());
    shop.local();
    shop.desk
        .write("expected", "acme/Order\n# a remark\nbeta/*\n");
    let orders = later(&shop, |name| name.starts_with("nightly/acme/Order/"));
    let mark = later(&shop, |name| {
        name.contains("/acme/Customer/") && name.ends_with(".overall_export_metadata")
    });
    let mut running = waiting(&shop, &["--expect", "expected"]);
    assert!(running.wait_for_output(r#""event":"waiting""#), "it waits");
    assert!(
        running.wait_for_output("acme/Order") && running.wait_for_output("acme/Customer"),
        "it says for what"
    );
    // One of the two comes: the other one is waited for, and that is told.
    arrive(&shop, mark);
    assert!(
        running.wait_for_output(r#""waiting_for":["acme/Order"]"#),
        "it says what is still missing"
    );
    // An export that grows is not taken before its completion marker is there.
    let (marks, rest): (Vec<_>, Vec<_>) = orders
        .into_iter()
        .partition(|(name, _)| name.ends_with(".overall_export_metadata"));
    let looked = shop.server.count(Call::List);
    arrive(&shop, rest);
    assert!(
        running.wait_until(|| shop.server.count(Call::List)
            > looked + 2 * shop.server.names("shop").len().div_ceil(3)),
        "it looks again"
    );
    assert_eq!(shop.server.names("vault"), [""; 0]);
    arrive(&shop, marks);
    let run = discreet(sound(running.wait(), &["pack"]));
    assert_eq!(run.code, 0, "{}", run.brief());
    shop.assert_packed();
}

#[test]
fn a_pack_may_come_before_the_first_export() {
    let shop = BucketFixture::of_kinds(&[("Note", 5, 100)]);
    shop.local();
    let all = later(&shop, |_| true);
    shop.desk.write("expected", "Note\n");
    let mut running = waiting(&shop, &["--expect", "expected"]);
    assert!(
        running.wait_for_output(r#""waiting_for":["Note"]"#),
        "it waits"
    );
    arrive(&shop, all);
    let run = discreet(sound(running.wait(), &["pack"]));
    assert_eq!(run.code, 0, "{}", run.brief());
    shop.assert_packed();
}

#[test]
fn wait_timeout_lists_everything_missing() {
    let shop = BucketFixture::of_set(&managed());
    shop.desk
        .write("expected", "acme/Order\nacme/Nonesuch\nbeta/*\n");
    later(&shop, |name| {
        name.contains("/acme/Customer/") && name.ends_with(".overall_export_metadata")
    });
    let args = [
        "pack", SOURCE, ARCHIVE, "--expect", "expected", "--wait", "1s",
    ];
    shop.says(
        3,
        &args,
        &[
            "acme/Nonesuch: there is no finished export of it",
            "acme/Customer",
        ],
    );
    let run = shop.expect(3, &[&args[..], &["--json"]].concat());
    let error = last(&run)["error"].to_string();
    assert!(
        error.contains("acme/Nonesuch")
            && error.contains("acme/Customer")
            && !error.contains("acme/Order"),
        "{error}"
    );
    let events = run.events();
    assert!(
        events.iter().any(|event| event["event"] == "waiting"),
        "{events:?}"
    );
    let told: Vec<&str> = events
        .iter()
        .filter(|event| event["event"] == "problem")
        .filter_map(|event| event["of"].as_str())
        .collect();
    assert!(
        told.iter().any(|of| of.contains("acme/Nonesuch"))
            && told.iter().any(|of| of.contains("acme/Customer")),
        "{told:?}"
    );
    assert_eq!(shop.server.names("vault"), [""; 0]);
    // Without --wait it looks once.
    shop.server.forget();
    shop.says(3, &args[..5], &["acme/Nonesuch"]);
    assert_eq!(
        shop.server.count(Call::List),
        shop.server.names("shop").len().div_ceil(3)
    );
}
