//! Targets and ways that are refused.

use super::*;

#[test]
fn source_project_in_any_spelling_is_refused() {
    let target = |text: &str, host: Option<&str>, change: fn(&mut PlanSelection)| {
        let mut choices = Choices::new(text.parse().unwrap());
        change(&mut choices.selection);
        plan(&shop(), &archive(), &choices, &emulator_at(host))
    };
    for text in [
        "datastore:demo-src",
        "datastore:DEMO-src",
        "datastore:s~demo-src",
        "datastore:e~Demo-Src",
        "datastore:demo-src/other",
        "datastore:demo-src/(default)",
        "datastore:example.com:demo-src",
        "datastore:s~example.com:Demo-src",
    ] {
        let error = target(text, None, |_| {}).unwrap_err();
        assert!(
            matches!(error, PlanError::SourceProject { .. }) && error.class() == PlanClass::Refused,
            "{text}: {error}"
        );
        assert!(
            target(text, None, |s| s.disaster_recovery = true).is_ok(),
            "{text}"
        );
    }
    for text in [
        "datastore:shop-test",
        "datastore:example.com:shop",
        "datastore:demo-src-2",
        "emulator:demo-src@localhost:1",
        "dir:out",
        "ndjson:out",
    ] {
        assert!(target(text, None, |_| {}).is_ok(), "{text}");
    }
    let half = Environment {
        emulator_host: None,
        half_set: Some(("DATASTORE_HOST".to_owned(), "http://::1:8432".to_owned())),
    };
    assert!(matches!(
        plan(&shop(), &archive(), &Choices::new("datastore:shop-test".parse().unwrap()), &half),
        Err(PlanError::EmulatorVariableSet { variable, .. }) if variable == "DATASTORE_HOST"
    ));
    for host in ["localhost:8081", "localhost", ""] {
        let error = target("datastore:shop-test", Some(host), |s| {
            s.disaster_recovery = true
        })
        .unwrap_err();
        assert!(
            matches!(error, PlanError::EmulatorVariableSet { .. })
                && error.class() == PlanClass::Refused,
            "{error}"
        );
    }
}

#[test]
fn emulator_address_comes_from_the_environment() {
    let target = |text: &str, host: Option<&str>| {
        plan(
            &shop(),
            &archive(),
            &Choices::new(text.parse().unwrap()),
            &emulator_at(host),
        )
        .map(|plan| plan.head.choices.target.to_string())
    };
    assert_eq!(
        target("emulator:shop", Some("localhost:8081")).unwrap(),
        "emulator:shop@localhost:8081"
    );
    assert_eq!(
        target("emulator:shop@localhost:9", Some("localhost:8081")).unwrap(),
        "emulator:shop@localhost:9"
    );
    assert_eq!(
        target("emulator:shop", None).unwrap_err().to_string(),
        "target emulator:shop has no address, and DATASTORE_EMULATOR_HOST is not set"
    );
    assert_eq!(
        target("emulator:shop", Some("http://localhost:8081/")).unwrap(),
        "emulator:shop@localhost:8081"
    );
    for half in ["", "localhost", ":8081"] {
        assert_eq!(
            target("emulator:shop", Some(half)),
            Err(PlanError::InvalidEmulatorAddress {
                found: half.to_owned()
            })
        );
    }
}

#[test]
fn googles_own_addresses_are_no_emulator() {
    for host in [
        "datastore.googleapis.com:443",
        "eu-Datastore.GoogleAPIs.com.:443",
        "googleapis.com:80",
    ] {
        let named = Choices::new(format!("emulator:shop@{host}").parse().unwrap());
        let environment = emulator_at(Some(host));
        for outcome in [
            planned(&shop(), &named),
            plan(
                &shop(),
                &archive(),
                &Choices::new("emulator:shop".parse().unwrap()),
                &environment,
            ),
        ] {
            assert!(
                matches!(outcome, Err(PlanError::EmulatorAddressIsGoogle { .. })),
                "{host}"
            );
        }
    }
    assert!(
        planned(
            &shop(),
            &Choices::new("emulator:shop@notgoogleapis.com:1".parse().unwrap())
        )
        .is_ok()
    );
}

#[test]
fn kinds_of_one_file_are_refused() {
    let kinds = ["Order", "order"].map(|kind| item("", kind, 10, &[], &[]));
    let to = |target: &str| {
        let choices = Choices::new(target.parse().unwrap());
        planned(&manifest(kinds.to_vec()), &choices)
    };
    for folder in ["ndjson:out", "dir:out"] {
        assert_eq!(
            to(folder).unwrap_err(),
            PlanError::SameFile {
                first: KindRef::new("", "Order"),
                second: KindRef::new("", "order"),
            }
        );
    }
    assert!(to("emulator:shop-test@localhost:1").is_ok());
}
