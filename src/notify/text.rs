//! A notification as people read it.

use indicatif::{HumanBytes, HumanCount};

use super::report::{BackupOutcome, BackupReport, KindChange, Notification};

/// No list of a mail has more lines.
const MAX_LINES: usize = 200;

/// No name or reason is longer, in characters.
const MAX_CHARS: usize = 300;

impl Notification {
    /// One line that says how the backup ended.
    pub fn subject(&self) -> String {
        let report = &self.report;
        let of = report.app.as_deref().unwrap_or(&report.source);
        let ended = match report.outcome() {
            BackupOutcome::Success => "OK",
            BackupOutcome::Incomplete => "INCOMPLETE",
            BackupOutcome::Failure => "FAILED",
        };
        one_line(&format!(
            "kindpack: {ended}: backup of {of}, {}",
            self.numbers()
        ))
    }

    fn numbers(&self) -> String {
        let report = &self.report;
        let lacking = report.failed.len().max(report.missing.len());
        let kinds = counted(report.kinds.len() as u64, "kind", "kinds");
        match report.outcome() {
            BackupOutcome::Success => {
                let entities = counted(report.entities(), "entity", "entities");
                format!("{kinds}, {entities}")
            }
            BackupOutcome::Incomplete => format!("{kinds}, {lacking} missing"),
            BackupOutcome::Failure if lacking > 0 => format!("{lacking} failed, no archive"),
            BackupOutcome::Failure => "no archive".to_owned(),
        }
    }

    /// What happened in a few lines, without the list of all kinds.
    pub fn summary(&self) -> String {
        let mut lines = self.facts();
        section(
            &mut lines,
            "Failed",
            self.report
                .failed
                .iter()
                .map(|kind| format!("{}/{}: {}", kind.namespace, kind.kind, kind.error)),
        );
        section(
            &mut lines,
            "Missing in the archive",
            self.report.missing.iter(),
        );
        let changes = self.changes();
        let shrunk = changes.iter().filter(|change| change.has_shrunk());
        section(
            &mut lines,
            "Half as large as before, or less",
            shrunk.map(kind_line),
        );
        section(&mut lines, "No longer there", self.vanished().iter());
        section(&mut lines, "Remarks", self.report.remarks.iter());
        lines.join("\n") + "\n"
    }

    fn facts(&self) -> Vec<String> {
        let (report, previous) = (&self.report, self.previous.as_ref());
        let before = |value: fn(&BackupReport) -> Option<String>| {
            previous
                .and_then(value)
                .map_or_else(String::new, |value| format!(" (before: {value})"))
        };
        let fact = |name: &str, value: fn(&BackupReport) -> Option<String>| {
            let value = value(report).map(|now| now + &before(value))?;
            Some(one_line(&format!("{name:<9} {value}")))
        };
        let facts = [
            Some(self.subject()),
            report
                .error
                .as_ref()
                .map(|error| one_line(&format!("error     {error}"))),
            Some(one_line(&format!("source    {}", report.source))),
            fact("backup", |report| report.id.clone()),
            fact("archive", |report| report.archive.clone()),
            report.sha256.map(|sha256| format!("sha256    {sha256}")),
            fact("size", |report| Some(HumanBytes(report.bytes?).to_string())),
            fact("kinds", |report| {
                Some(HumanCount(report.kinds.len() as u64).to_string())
            }),
            fact("entities", |report| {
                Some(HumanCount(report.entities()).to_string())
            }),
            fact("duration", |report| report.seconds().map(duration)),
            report.started.map(|time| format!("started   {time}")),
            report.snapshot_time.map(|time| format!("snapshot  {time}")),
        ];
        facts.into_iter().flatten().collect()
    }

    /// The summary, and a line for each kind.
    pub fn body(&self) -> String {
        let mut lines = Vec::new();
        let changes = self.changes();
        section(&mut lines, "Kinds", changes.iter().map(kind_line));
        self.summary() + &lines.join("\n") + "\n"
    }
}

fn section<T: ToString>(lines: &mut Vec<String>, head: &str, items: impl Iterator<Item = T>) {
    let mut items = items.map(|item| item.to_string()).peekable();
    if items.peek().is_none() {
        return;
    }
    lines.extend([String::new(), format!("{head}:")]);
    let shown = items.by_ref().take(MAX_LINES);
    lines.extend(shown.map(|item| format!("  {}", one_line(&item))));
    let more = items.count();
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
}

fn kind_line(change: &KindChange<'_>) -> String {
    let KindChange { kind, previous } = change;
    let before =
        |text: Option<String>| text.map_or_else(String::new, |text| format!(" (before: {text})"));
    let seconds = |kind: &super::KindReport| kind.seconds.map(duration);
    let parts = [
        kind.entities.map(|now| {
            let then = previous.and_then(|then| then.entities);
            counted(now, "entity", "entities")
                + &before(then.map(|then| HumanCount(then).to_string()))
        }),
        kind.bytes.map(|now| {
            let then = previous.and_then(|then| then.bytes);
            HumanBytes(now).to_string() + &before(then.map(|then| HumanBytes(then).to_string()))
        }),
        seconds(kind).map(|now| now + &before(previous.and_then(seconds))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("{}: {}", kind.pair(), parts.join(", "))
}

fn counted(number: u64, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{} {noun}", HumanCount(number))
}

fn duration(seconds: u64) -> String {
    crate::model::spelled_duration(std::time::Duration::from_secs(seconds))
}

/// A text on one line, without what would steer a reader, and not too long.
pub(super) fn one_line(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = printable.take(MAX_CHARS).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, KindRef, Namespace};
    use crate::notify::{KindFailure, KindReport};

    fn kind(name: &str, entities: u64) -> KindReport {
        KindReport {
            namespace: Namespace::new("acme"),
            kind: Kind::new(name),
            entities: Some(entities),
            bytes: Some(entities * 100),
            seconds: Some(61),
        }
    }

    fn report(kinds: Vec<KindReport>) -> BackupReport {
        BackupReport {
            app: Some("shop".to_owned()),
            source: "datastore:shop".to_owned(),
            archive: Some("gs://vault/all_backup_20260302010000.zip".to_owned()),
            started: Some("2026-03-02T01:00:00Z".parse().unwrap()),
            finished: Some("2026-03-02T01:02:03Z".parse().unwrap()),
            kinds,
            ..BackupReport::default()
        }
    }

    fn failure() -> KindFailure {
        KindFailure {
            namespace: Namespace::new("acme"),
            kind: Kind::new("Session"),
            error: "PERMISSION_DENIED; enable billing".to_owned(),
        }
    }

    #[test]
    fn subject_tells_how_the_backup_ended() {
        let mut notification = Notification {
            report: report(vec![kind("User", 1), kind("Order", 9)]),
            previous: None,
        };
        assert_eq!(
            notification.subject(),
            "kindpack: OK: backup of shop, 2 kinds, 10 entities"
        );
        notification.report.failed.push(failure());
        notification
            .report
            .missing
            .push(KindRef::new("acme", "Session"));
        assert_eq!(
            notification.subject(),
            "kindpack: INCOMPLETE: backup of shop, 2 kinds, 1 missing"
        );
        notification.report.archive = None;
        assert_eq!(
            notification.subject(),
            "kindpack: FAILED: backup of shop, 1 failed, no archive"
        );
        notification.report.app = Some("a\r\nBcc: x".to_owned());
        assert!(!notification.subject().contains(['\r', '\n']));
    }

    #[test]
    fn body_shows_each_kind_beside_the_previous_run() {
        let notification = Notification {
            report: BackupReport {
                failed: vec![failure()],
                ..report(vec![kind("User", 10), kind("Order", 2)])
            },
            previous: Some(report(vec![
                kind("User", 9),
                kind("Order", 4),
                kind("Old", 1),
            ])),
        };
        let body = notification.body();
        for line in [
            "kinds     2 (before: 3)",
            "duration  2m 3s (before: 2m 3s)",
            "  acme/Session: PERMISSION_DENIED; enable billing",
            "Half as large as before, or less:\n  acme/Order: 2 entities (before: 4), 200 B (before: 400 B), 1m 1s (before: 1m 1s)",
            "No longer there:\n  acme/Old\n",
            "  acme/User: 10 entities (before: 9)",
        ] {
            assert!(body.contains(line), "{line:?} in {body}");
        }
        assert!(!notification.summary().contains("acme/User"));
    }

    #[test]
    fn long_lists_and_names_are_cut() {
        let long = "x".repeat(1_000);
        let kinds = (0..500).map(|number| kind(&format!("K{number}{long}"), 1));
        let notification = Notification {
            report: report(kinds.collect()),
            previous: None,
        };
        let body = notification.body();
        assert!(body.contains("  and 300 more"));
        assert!(body.lines().all(|line| line.chars().count() < 310));
    }
}
