use proptest::prelude::*;

use super::*;
use crate::model::Timestamp;

const STEPS: [(u32, &str, u64); 3] = [
    (1, "Product", 900),
    (3, "Größe\n\"价\"", 1_200),
    (2, "Order", 0),
];

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(1_763_805_600_000_000 + second * 1_000_000).unwrap()
}

fn opened() -> JournalEvent {
    JournalEvent::Opened {
        format: JOURNAL_FORMAT.to_owned(),
        plan_sha256: Sha256([0xab; 32]),
        target: "emulator:shop-test@localhost:8081".to_owned(),
        steps: STEPS.map(|(id, ..)| id).to_vec(),
        tool: "kindpack 0.1.0".to_owned(),
    }
}

fn started(step: u32, attempt: u32) -> JournalEvent {
    let kind = STEPS
        .iter()
        .find(|(id, ..)| *id == step)
        .map_or("Nobody", |(_, kind, _)| kind);
    JournalEvent::StepStarted {
        step,
        namespace: Namespace::new("acme"),
        kind: Kind::new(kind),
        attempt,
    }
}

fn checkpoint(step: u32, entities: u64, piece: u32) -> JournalEvent {
    JournalEvent::Checkpoint {
        step,
        entities,
        position: StepPosition {
            entry: 0,
            piece,
            records: entities % 100,
        },
    }
}

fn finished_step(step: u32, entities: u64) -> JournalEvent {
    JournalEvent::StepFinished {
        step,
        entities,
        counted: Some(entities),
    }
}

fn failed(step: u32) -> JournalEvent {
    JournalEvent::StepFailed {
        step,
        error: "the target took no more".to_owned(),
    }
}

/// A restore that was killed once, failed once, and came to its end.
fn whole() -> Vec<JournalEvent> {
    vec![
        opened(),
        started(1, 1),
        checkpoint(1, 500, 0),
        started(1, 2),
        checkpoint(1, 500, 0),
        finished_step(1, 900),
        started(3, 1),
        started(2, 1),
        finished_step(2, 0),
        checkpoint(3, 1_000, 1),
        failed(3),
        started(3, 2),
        checkpoint(3, 1_100, 1),
        finished_step(3, 1_200),
        JournalEvent::Finished {
            steps: 3,
            entities: 2_100,
        },
    ]
}

fn lines(events: &[JournalEvent]) -> String {
    (0..)
        .zip(events)
        .map(|(second, event)| encode(event, at(second)))
        .collect()
}

/// Goes on from a journal as `restore` does: what is done stays done, the rest is started,
/// everything is applied before it is written.
fn resume(bytes: &[u8]) -> Vec<u8> {
    let mut journal = read(bytes).unwrap();
    let mut text = bytes[..journal.valid_len as usize].to_vec();
    let mut write = |journal: &mut Journal, event: JournalEvent| {
        journal.apply(&event, at(1_000)).unwrap();
        text.extend(encode(&event, at(1_000)).bytes());
    };
    if journal.opened.is_none() {
        write(&mut journal, opened());
    }
    for (id, _, entities) in STEPS {
        let status = journal.steps[&id].clone();
        if status.state != StepState::Done {
            write(&mut journal, started(id, status.attempts + 1));
            write(
                &mut journal,
                JournalEvent::Checkpoint {
                    step: id,
                    entities: status.entities,
                    position: status.position.unwrap_or_default(),
                },
            );
            write(&mut journal, finished_step(id, entities));
        }
    }
    if journal.finished.is_none() {
        write(
            &mut journal,
            JournalEvent::Finished {
                steps: 3,
                entities: 2_100,
            },
        );
    }
    text
}

#[test]
fn cut_restore_resumes_and_loses_no_step() {
    let events = whole();
    let text = lines(&events);
    let ends: Vec<usize> = text
        .bytes()
        .enumerate()
        .filter(|(_, byte)| *byte == b'\n')
        .map(|(at, _)| at + 1)
        .collect();
    assert_eq!(ends.len(), events.len());
    for cut in 0..=text.len() {
        let part = &text.as_bytes()[..cut];
        let journal = read(part).unwrap();
        let valid = ends
            .iter()
            .rev()
            .find(|end| **end <= cut)
            .copied()
            .unwrap_or(0);
        assert_eq!(
            (journal.valid_len, journal.torn),
            (valid as u64, valid != cut),
            "cut after {cut} bytes"
        );

        let resumed = resume(part);
        let journal = read(&resumed).unwrap();
        assert!(
            journal.is_complete() && journal.finished.is_some() && !journal.torn,
            "cut after {cut} bytes"
        );
        let said = String::from_utf8(resumed).unwrap();
        for (id, _, entities) in STEPS {
            assert_eq!(
                said.matches(&format!("\"event\":\"step-finished\",\"step\":{id},"))
                    .count(),
                1,
                "cut after {cut} bytes"
            );
            assert_eq!(journal.steps[&id].entities, entities);
        }
    }
}

#[test]
fn changed_byte_fails_or_tears_the_tail() {
    let text = lines(&whole());
    for at in 0..text.len() {
        for with in [
            0x01,
            0x20,
            0x80,
            text.as_bytes()[at] ^ b'\n',
            text.as_bytes()[at],
        ]
        .into_iter()
        .filter(|with| *with != 0)
        {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= with;
            if let Ok(journal) = read(&bytes) {
                assert!(journal.torn, "byte {at} xor {with}");
                let prefix = read(&text.as_bytes()[..journal.valid_len as usize]).unwrap();
                assert_eq!(
                    Journal {
                        torn: false,
                        ..journal
                    },
                    prefix,
                    "byte {at} xor {with}"
                );
            }
        }
    }
}

#[test]
fn damaged_line_is_named_by_number() {
    let text = lines(&whole());
    let broken = text.replacen("\"entities\":500", "\"entities\":501", 1);
    let error = read(broken.as_bytes()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("line 3 is damaged: expected crc "),
        "{error}"
    );
    let without: String = text
        .lines()
        .filter(|line| !line.contains("step-started"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(matches!(
        read(without.as_bytes()),
        Err(JournalError::InvalidTransition { line: 2, .. })
    ));
    assert!(matches!(
        read(format!("\n{text}").as_bytes()),
        Err(JournalError::Damaged { line: 1, .. })
    ));
    assert!(matches!(
        read(text.replace('\n', "\r\n").as_bytes()),
        Err(JournalError::Damaged { line: 1, .. })
    ));
}

#[test]
fn journal_line_is_plain_json() {
    let line = encode(&started(1, 1), at(1));
    assert_eq!(
        line,
        "{\"crc\":\"86ed1faf\",\"at\":\"2025-11-22T10:00:01Z\",\"event\":\"step-started\",\"step\":1,\"namespace\":\"acme\",\"kind\":\"Product\",\"attempt\":1}\n"
    );
}

/// A line with a right checksum, whatever it says.
fn line(rest: &str) -> String {
    format!(
        "{{\"crc\":\"{}\",{rest}\n",
        crate::model::Crc32c(crc32c::crc32c(rest.as_bytes()))
    )
}

#[test]
fn unknown_event_at_the_end_is_refused() {
    let start = lines(&[opened()]);
    for rest in [
        "",
        "}",
        "\"at\":\"2026-11-22T10:00:00Z\",\"event\":\"paused\"}",
        "\"at\":\"2026-11-22T10:00:00Z\",\"event\":\"step-failed\",\"step\":1}",
        "\"at\":\"2026-11-22T10:00:00Z\",\"event\":\"step-failed\",\"step\":1,\"error\":\"\",\"more\":1}",
        "\"at\":\"yesterday\",\"event\":\"step-failed\",\"step\":1,\"error\":\"\"}",
        "\"at\":\"2026-11-22T10:00:00Z\",\"event\":\"finished\",\"steps\":-1,\"entities\":0}",
        &"[".repeat(50_000),
        "\u{fffd}\0",
    ] {
        let error = read(format!("{start}{}", line(rest)).as_bytes()).unwrap_err();
        assert!(
            matches!(error, JournalError::NotAnEvent { line: 2, .. }),
            "{rest:.60}: {error}"
        );
    }
}

#[test]
fn impossible_event_is_refused_and_changes_nothing() {
    let done = [
        opened(),
        started(1, 1),
        checkpoint(1, 500, 1),
        finished_step(1, 900),
    ];
    let cases: Vec<(&[JournalEvent], JournalEvent)> = vec![
        (&[], started(1, 1)),
        (
            &[],
            JournalEvent::Finished {
                steps: 0,
                entities: 0,
            },
        ),
        (&done[..1], opened()),
        (&done[..1], started(7, 1)),
        (&done[..1], started(1, 2)),
        (&done[..1], started(1, 0)),
        (&done[..1], checkpoint(1, 0, 0)),
        (&done[..1], finished_step(1, 900)),
        (&done[..1], failed(1)),
        (&done[..2], started(1, 1)),
        (
            &done[..2],
            JournalEvent::StepStarted {
                step: 1,
                namespace: Namespace::new(""),
                kind: Kind::new("Product"),
                attempt: 2,
            },
        ),
        (&done[..3], checkpoint(1, 499, 1)),
        (&done[..3], checkpoint(1, 600, 0)),
        (&done[..3], finished_step(1, 499)),
        (&done, finished_step(1, 900)),
        (&done, started(1, 2)),
        (&done, checkpoint(1, 900, 2)),
        (&done, failed(1)),
        (
            &done,
            JournalEvent::Finished {
                steps: 3,
                entities: 900,
            },
        ),
        (
            &done,
            JournalEvent::Finished {
                steps: 1,
                entities: 900,
            },
        ),
    ];
    for (before, event) in cases {
        let mut journal = read(lines(before).as_bytes()).unwrap();
        let as_it_was = journal.clone();
        let error = journal
            .apply(&event, at(9))
            .expect_err(&format!("{event:?}"));
        assert_eq!(error.event, event.name());
        assert_eq!(journal, as_it_was, "{event:?}");
    }
    let mut over = read(lines(&whole()).as_bytes()).unwrap();
    assert!(
        over.apply(&started(1, 3), at(9)).is_err()
            && over
                .apply(
                    &JournalEvent::Finished {
                        steps: 3,
                        entities: 2_100
                    },
                    at(9)
                )
                .is_err()
    );
    let twice = JournalEvent::Opened {
        format: JOURNAL_FORMAT.to_owned(),
        plan_sha256: Sha256([0; 32]),
        target: String::new(),
        steps: vec![1, 1],
        tool: String::new(),
    };
    assert!(Journal::default().apply(&twice, at(0)).is_err());
    let other = lines(&[opened()]).replace("kindpack-journal/1", "kindpack-journal/2");
    let rest = other.split_once(',').unwrap().1.trim_end();
    let error = read(line(rest).as_bytes()).unwrap_err();
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "event opened is not possible here: expected format kindpack-journal/1, found \"kindpack-journal/2\""
    );
}

/// Why an event cannot follow others.
fn refusal(before: &[JournalEvent], event: &JournalEvent) -> String {
    let mut journal = read(lines(before).as_bytes()).unwrap();
    let as_it_was = journal.clone();
    let error = journal.apply(event, at(9)).unwrap_err();
    assert_eq!(journal, as_it_was, "{event:?}");
    format!("expected {}, found {}", error.expected, error.found)
}

#[test]
fn refused_event_says_what_it_needs() {
    let whole = whole();
    let companions = JournalEvent::CompanionsCopied {
        objects: 1,
        bytes: 2,
    };
    let hook = JournalEvent::HookFinished { step: None };
    for (before, event, expected) in [
        (
            &whole[..6],
            started(1, 3),
            "expected a step that is not done, found step 1 done",
        ),
        (
            &whole[..1],
            checkpoint(1, 0, 0),
            "expected a running step, found step 1 pending",
        ),
        (
            &whole[..],
            failed(1),
            "expected nothing more, found an event after the end",
        ),
        (
            &whole[..1],
            opened(),
            "expected one beginning, found another",
        ),
        (
            &whole[..6],
            companions,
            "expected every step done, found 1 of 3 done",
        ),
        (
            &whole[..6],
            hook,
            "expected every step done, and no such command before, found 1 done",
        ),
    ] {
        assert_eq!(refusal(before, &event), expected);
    }
}

#[test]
fn command_after_a_step_ends_once() {
    let hook = |step| JournalEvent::HookFinished { step };
    let mut events = whole();
    events.pop();
    assert!(refusal(&events[..2], &hook(Some(1))).starts_with("expected a running step"));
    events.push(hook(Some(1)));
    assert_eq!(
        refusal(&events, &hook(Some(1))),
        "expected one end of its command, found step 1 with another"
    );
    events.push(hook(None));
    assert!(refusal(&events, &hook(None)).starts_with("expected every step done, and no such"));
    let journal = read(lines(&events).as_bytes()).unwrap();
    assert!(journal.hook_finished && journal.steps[&1].hook_finished);
    assert!(!journal.steps[&2].hook_finished);
}

#[test]
fn deleted_entities_are_never_fewer() {
    let others = |deleted| JournalEvent::OthersDeleted { step: 1, deleted };
    let mut events = vec![opened(), started(1, 1), others(5)];
    assert_eq!(
        refusal(&events, &others(4)),
        "expected at least 5 deleted, found step 1 with 4"
    );
    events.extend([others(5), others(6)]);
    let journal = read(lines(&events).as_bytes()).unwrap();
    assert_eq!(journal.steps[&1].deleted, Some(6));
}

#[test]
fn only_what_a_crash_leaves_is_dropped() {
    let text = lines(&[opened(), started(1, 1)]);
    let after = |tail: &str| read(format!("{text}{tail}").as_bytes());
    for tail in [
        "{",
        "{\"crc\":\"",
        "{\"crc\":\"0",
        "\0",
        "\0\0\0\n",
        "{\"crc\":\"00000000\",}\n",
    ] {
        let journal = after(tail).unwrap();
        assert_eq!(
            (journal.torn, journal.valid_len),
            (true, text.len() as u64),
            "{tail:?}"
        );
    }
    for tail in ["x", "{}", "\0x", "{\"crc\":1}\n", "\n"] {
        let torn = tail == "\n";
        match after(tail) {
            Ok(journal) => assert!(torn && journal.torn),
            Err(error) => assert_eq!(
                (torn, error.to_string().as_str()),
                (
                    false,
                    "line 3 is damaged: expected a crc at the beginning, found other text"
                ),
            ),
        }
    }
}

#[test]
fn cut_step_is_running_from_its_checkpoint() {
    let journal = read(lines(&whole()[..10]).as_bytes()).unwrap();
    let cut = &journal.steps[&3];
    assert_eq!(
        (cut.state, cut.entities, cut.attempts),
        (StepState::Running, 1_000, 1)
    );
    assert_eq!(
        cut.position,
        Some(StepPosition {
            entry: 0,
            piece: 1,
            records: 0
        })
    );
    assert_eq!((journal.done(), journal.entities()), (2, 1_900));
    let failed = &read(lines(&whole()[..11]).as_bytes()).unwrap().steps[&3];
    assert_eq!(
        (failed.state, failed.error.as_deref()),
        (StepState::Failed, Some("the target took no more"))
    );
    let again = &read(lines(&whole()[..12]).as_bytes()).unwrap().steps[&3];
    assert_eq!((again.state, &again.error), (StepState::Running, &None));
}

#[test]
fn journal_serves_its_own_plan_only() {
    let journal = read(lines(&whole()[..4]).as_bytes()).unwrap();
    let target = "emulator:shop-test@localhost:8081";
    assert_eq!(journal.check(Sha256([0xab; 32]), target), Ok(()));
    assert!(matches!(
        journal.check(Sha256([0xac; 32]), target),
        Err(JournalError::OtherPlan { .. })
    ));
    assert!(matches!(
        journal.check(Sha256([0xab; 32]), "dir:out"),
        Err(JournalError::OtherTarget { .. })
    ));
    assert_eq!(read(b"").unwrap().check(Sha256([0; 32]), "dir:out"), Ok(()));
}

#[test]
fn foreign_journal_says_how_far_it_came() {
    let journal = read(lines(&whole()[..8]).as_bytes()).unwrap();
    assert!(
        journal.is_of_other_plan(Sha256([0; 32])) && !journal.is_of_other_plan(Sha256([0xab; 32]))
    );
    assert!(!Journal::default().is_of_other_plan(Sha256([0; 32])));
    let error = journal
        .check(Sha256([0; 32]), "dir:out")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("1 of 3 steps into emulator:shop-test@localhost:8081 are done"),
        "{error}"
    );
}

#[test]
fn steps_that_contradict_the_plan_are_refused() {
    let planned = |first: Option<u64>, kinds: [&str; 3]| {
        let entities = [first, Some(1_200), Some(0)];
        let step = |(at, id): (usize, u32)| PlannedStep {
            id,
            pair: KindRef::new("acme", kinds[at]),
            entities: entities[at],
        };
        [1, 3, 2]
            .into_iter()
            .enumerate()
            .map(step)
            .collect::<Vec<_>>()
    };
    let kinds = STEPS.map(|(_, kind, _)| kind);
    let done = read(lines(&whole()).as_bytes()).unwrap();
    assert_eq!(done.check_steps(&planned(Some(900), kinds)), Ok(()));
    assert_eq!(
        done.check_steps(&planned(None, kinds)),
        Ok(()),
        "of a sample the number is not known"
    );
    assert_eq!(Journal::default().check_steps(&[]), Ok(()));
    let error = done
        .check_steps(&planned(Some(908), kinds))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "step 1 (acme/Product): expected 908 entities, found 900"
    );
    assert!(matches!(
        done.check_steps(&planned(Some(900), ["Other", kinds[1], kinds[2]])),
        Err(JournalError::OtherSteps { .. })
    ));
    assert!(matches!(
        done.check_steps(&planned(Some(900), kinds)[..2]),
        Err(JournalError::OtherSteps { .. })
    ));
    let running = read(lines(&whole()[..3]).as_bytes()).unwrap();
    assert_eq!(running.check_steps(&planned(Some(900), kinds)), Ok(()));
    assert!(
        matches!(
            running.check_steps(&planned(Some(499), kinds)),
            Err(JournalError::WrongStep { .. })
        ),
        "more than there are"
    );
}

#[test]
fn a_restore_without_steps_begins_and_ends() {
    let JournalEvent::Opened {
        format,
        plan_sha256,
        target,
        tool,
        ..
    } = opened()
    else {
        unreachable!()
    };
    let events = [
        JournalEvent::Opened {
            format,
            plan_sha256,
            target,
            tool,
            steps: vec![],
        },
        JournalEvent::Finished {
            steps: 0,
            entities: 0,
        },
    ];
    assert!(read(lines(&events).as_bytes()).unwrap().finished.is_some());
}

#[test]
fn lines_hold_to_their_schema() {
    let schema = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/schemas/journal.schema.json"
    ));
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let uncounted = JournalEvent::StepFinished {
        step: 1,
        entities: 9,
        counted: None,
    };
    for event in whole().into_iter().chain([uncounted]) {
        let mut value: serde_json::Value = serde_json::from_str(&encode(&event, at(0))).unwrap();
        assert!(validator.is_valid(&value), "{value}");
        value["more"] = 1.into();
        assert!(!validator.is_valid(&value), "{value}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_event_comes_back_as_it_was_written(kind in "\\PC{0,20}|[\\x00-\\x20]{0,5}", error in ".{0,20}", entities: u64, micros in 0i64..4_000_000_000_000_000) {
        let time = Timestamp::from_micros(micros).unwrap();
        let started = JournalEvent::StepStarted { step: 1, namespace: Namespace::new(""), kind: Kind::new(kind.clone()), attempt: 1 };
        let text = [opened(), started, checkpoint(1, entities, 9), JournalEvent::StepFailed { step: 1, error: error.clone() }].map(|event| encode(&event, time)).concat();
        prop_assert_eq!(text.matches('\n').count(), 4);
        let journal = read(text.as_bytes()).unwrap();
        prop_assert_eq!(journal.opened.unwrap().at, time);
        let status = &journal.steps[&1];
        prop_assert_eq!(status.pair.as_ref().unwrap().kind.as_str(), kind);
        prop_assert_eq!(status.entities, entities);
        prop_assert_eq!(status.error.as_deref(), Some(error.as_str()));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), rest in "\\PC{0,60}") {
        _ = read(&bytes);
        _ = read(line(&rest).as_bytes());
    }
}
