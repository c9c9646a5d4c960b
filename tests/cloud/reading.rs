//! An archive is read where it lies: few requests, only the bytes that are needed, all of one generation.

use std::collections::BTreeSet;

use crate::cloud::shop::{ARCHIVE, SOURCE, STORED, Shop, try_all};
use crate::gcs_server::{Call, Deed, REPLACED};

/// Many kinds, one of them large: an archive of some MiB whose directory does not fit into its last 64 KiB with the manifest.
fn stocked() -> Shop {
    let names: Vec<String> = (0..150).map(|number| format!("Kind{number:03}")).collect();
    let mut kinds: Vec<(&str, u64, usize)> = names.iter().map(|name| (name.as_str(), 2, 100)).collect();
    kinds.push(("Image", 6, 1_000_000));
    let shop = Shop::of_kinds(&kinds);
    shop.server.page(1_000);
    shop.expect(0, &["pack", SOURCE, ARCHIVE]);
    shop.server.forget();
    shop
}

#[test]
fn an_archive_is_opened_with_few_requests_and_reads_only_what_is_asked_for() {
    let shop = stocked();
    let len = shop.server.get("vault", STORED).unwrap().len();
    assert!(len > 6_000_000, "{len}");
    let quick: [&[&str]; 4] = [
        &["list", ARCHIVE],
        &["list", ARCHIVE, "--json"],
        &["plan", ARCHIVE, "--target", "ndjson:x", "-o", "plan.json"],
        &["verify", ARCHIVE, "--quick"],
    ];
    for args in quick {
        shop.server.forget();
        shop.expect(0, args);
        let seen = shop.server.seen();
        assert!(seen.len() <= 4, "{args:?}: {} requests", seen.len());
        assert!(seen.iter().all(|seen| matches!(seen.call, Call::Stat | Call::Read)), "{args:?}: {seen:?}");
        assert!(shop.bytes_sent() <= 1 << 20, "{args:?}: {} bytes", shop.bytes_sent());
    }
    // Of one small kind nothing else is read, not even the gaps.
    let opened = shop.bytes_sent();
    for args in [&["cat", ARCHIVE, "Kind077"][..], &["restore", ARCHIVE, "--target", "ndjson:one", "--only", "Kind077"]] {
        shop.server.forget();
        shop.expect(0, args);
        assert!(shop.bytes_sent() < 2 * opened + (64 << 10), "{args:?}: {} bytes", shop.bytes_sent());
        assert!(shop.server.seen().len() <= 12, "{args:?}: {} requests", shop.server.seen().len());
    }
    // Of all but that kind nearly everything is read, and nothing twice.
    shop.server.forget();
    shop.expect(0, &["cat", ARCHIVE, "Image"]);
    assert!(shop.bytes_sent() > 6_000_000 && shop.bytes_sent() < len + opened, "{} bytes", shop.bytes_sent());
    // The entries once, and the archive once more for its sidecar.
    shop.server.forget();
    shop.expect(0, &["verify", ARCHIVE]);
    assert!(shop.bytes_sent() < 2 * (len + opened), "{} bytes of {len}", shop.bytes_sent());
}

#[test]
fn every_read_of_an_archive_names_one_generation() {
    let shop = stocked();
    let generation = shop.server.get("vault", STORED).unwrap().generation;
    for args in [&["verify", ARCHIVE][..], &["cat", ARCHIVE, "*"], &["restore", ARCHIVE, "--target", "ndjson:all"]] {
        shop.server.forget();
        shop.expect(0, args);
        let seen = shop.server.seen();
        let asked: BTreeSet<Option<String>> = seen
            .into_iter()
            .filter(|seen| seen.call == Call::Read && seen.name == STORED)
            .map(|seen| seen.query.split('&').find_map(|pair| pair.strip_prefix("generation=")).map(str::to_owned))
            .collect();
        assert_eq!(asked, [Some(generation.to_string())].into(), "{args:?}");
    }
}

#[test]
fn an_archive_that_is_replaced_while_it_is_read_is_refused() {
    let shop = Shop::of_kinds(&[("Image", 9, 1_000_000), ("Note", 5, 1_000)]);
    shop.expect(0, &["pack", SOURCE, ARCHIVE]);
    let archive = shop.server.get("vault", STORED).unwrap().bytes();
    let ready = || {
        let shop = shop.another();
        shop.server.put("vault", STORED, archive.clone());
        shop
    };
    let commands = ["verify", "cat", "extract", "restore"];
    // Each case has outputs of its own: what is there already need not be read.
    let args = |command: &'static str, out: &str| -> Vec<String> {
        let more = match command {
            "cat" => vec!["*".to_owned()],
            "extract" => vec![out.to_owned()],
            "restore" => vec!["--target".to_owned(), format!("ndjson:{out}")],
            _ => Vec::new(),
        };
        [vec![command.to_owned(), ARCHIVE.to_owned()], more].concat()
    };
    let run = |shop: &Shop, args: &[String]| shop.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut cases = Vec::new();
    for command in commands {
        let whole = ready();
        assert_eq!(run(&whole, &args(command, &format!("whole-{command}"))).code, 0);
        let reads = whole.server.count(Call::Read);
        assert!(reads > 3, "{command}: {reads}");
        cases.extend([1, reads / 2, reads - 1].map(|number| (command, number)));
    }
    try_all(&cases, |(command, number)| {
        let shop = ready();
        // The sidecar is read last; it is another object.
        let reads = shop.server.count(Call::Read);
        shop.server.plan(Call::Read, reads + number, Deed::Replace);
        let run = run(&shop, &args(command, &format!("{command}-{number}")));
        let of_archive = shop.server.get("vault", STORED).unwrap().bytes() == REPLACED;
        let told = matches!(run.code, 5 | 7) && run.err.contains(ARCHIVE) && run.err.contains("has changed");
        let flaw = !shop.server.unfired().is_empty() || (of_archive && !told);
        flaw.then(|| format!("{command}, replaced before read {number}: {}", run.brief())).into_iter().collect()
    });
}

#[test]
fn an_archive_whose_bytes_come_damaged_is_told_damaged() {
    let shop = Shop::of_kinds(&[("Image", 9, 1_000_000)]);
    shop.expect(0, &["pack", SOURCE, ARCHIVE]);
    let mut bytes = shop.server.get("vault", STORED).unwrap().bytes();
    bytes[4_000_000] ^= 1;
    shop.server.put("vault", STORED, bytes);
    shop.says(4, &["verify", ARCHIVE], &["exports/"]);
    shop.says(4, &["cat", ARCHIVE, "Image"], &["exports/"]);
    shop.expect(0, &["verify", ARCHIVE, "--quick"]);
}
