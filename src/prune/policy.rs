//! Which archives a keep policy keeps, as `restic forget` decides it: pure.

use std::fmt;
use std::num::NonZeroU32;

use jiff::civil::DateTime;
use strum::IntoEnumIterator as _;

/// How many archives are kept. Each number keeps some by itself; an archive stays where any keeps
/// it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeepPolicy {
    /// The newest archives.
    pub last: Option<NonZeroU32>,
    /// The newest archive of each day, for so many days that have one.
    pub daily: Option<NonZeroU32>,
    /// The newest archive of each ISO week.
    pub weekly: Option<NonZeroU32>,
    /// The newest archive of each month.
    pub monthly: Option<NonZeroU32>,
    /// The newest archive of each year.
    pub yearly: Option<NonZeroU32>,
}

/// A rule of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum KeepRule {
    /// The newest archives.
    Last,
    /// One a day.
    Daily,
    /// One an ISO week.
    Weekly,
    /// One a month.
    Monthly,
    /// One a year.
    Yearly,
}

/// Why an archive is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepReason {
    /// The rule that keeps it.
    pub rule: KeepRule,
    /// Whether it is kept only because it is the oldest one and the rule may keep another.
    pub is_oldest: bool,
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let oldest = if self.is_oldest { "oldest, " } else { "" };
        write!(f, "{oldest}{}", <&str>::from(self.rule))
    }
}

impl KeepPolicy {
    /// Whether the policy keeps nothing, so that it is none.
    pub fn is_empty(&self) -> bool {
        KeepRule::iter().all(|rule| self.limit(rule).is_none())
    }

    /// The rules that keep something, with their numbers.
    pub fn rules(&self) -> impl Iterator<Item = (KeepRule, NonZeroU32)> {
        KeepRule::iter().filter_map(|rule| Some((rule, self.limit(rule)?)))
    }

    fn limit(&self, rule: KeepRule) -> Option<NonZeroU32> {
        match rule {
            KeepRule::Last => self.last,
            KeepRule::Daily => self.daily,
            KeepRule::Weekly => self.weekly,
            KeepRule::Monthly => self.monthly,
            KeepRule::Yearly => self.yearly,
        }
    }

    /// Why each archive is kept, in the order of their times: the newest comes first. An archive
    /// without a reason goes.
    pub fn reasons(&self, newest_first: &[DateTime]) -> Vec<Vec<KeepReason>> {
        let mut counters: Vec<RuleCounter> = KeepRule::iter()
            .filter_map(|rule| Some(RuleCounter::new(rule, self.limit(rule)?)))
            .collect();
        let last = newest_first.len().saturating_sub(1);
        let reasons_of = |(number, time): (usize, &DateTime)| {
            let counters = counters.iter_mut();
            counters
                .filter_map(|counter| counter.keep(number, *time, number == last))
                .collect()
        };
        newest_first.iter().enumerate().map(reasons_of).collect()
    }
}

/// One rule while it passes over the archives.
struct RuleCounter {
    rule: KeepRule,
    left: u32,
    /// The period of the last archive that was kept.
    period: Option<i64>,
}

impl RuleCounter {
    fn new(rule: KeepRule, limit: NonZeroU32) -> Self {
        RuleCounter {
            rule,
            left: limit.get(),
            period: None,
        }
    }

    fn keep(&mut self, number: usize, time: DateTime, is_oldest: bool) -> Option<KeepReason> {
        if self.left == 0 {
            return None;
        }
        let period = Some(period(self.rule, number, time));
        let is_new = period != self.period;
        if !is_new && !is_oldest {
            return None;
        }
        self.period = period;
        self.left -= 1;
        Some(KeepReason {
            rule: self.rule,
            is_oldest: !is_new,
        })
    }
}

/// A number that two archives share where a rule keeps only the newer one.
fn period(rule: KeepRule, number: usize, time: DateTime) -> i64 {
    let year = i64::from(time.year());
    match rule {
        KeepRule::Last => i64::try_from(number).unwrap_or(i64::MAX),
        KeepRule::Daily => year * 1_000 + i64::from(time.date().day_of_year()),
        KeepRule::Weekly => {
            let week = time.date().iso_week_date();
            i64::from(week.year()) * 100 + i64::from(week.week())
        }
        KeepRule::Monthly => year * 100 + i64::from(time.month()),
        KeepRule::Yearly => year,
    }
}

/// The time that a backup id stands for: `YYYYMMDDHHMMSS`.
pub(super) fn time_of_id(id: &str) -> Option<DateTime> {
    if id.len() != 14 || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| id.get(from..to)?.parse::<i8>().ok();
    let year = id.get(..4)?.parse().ok()?;
    DateTime::new(
        year,
        number(4, 6)?,
        number(6, 8)?,
        number(8, 10)?,
        number(10, 12)?,
        number(12, 14)?,
        0,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn policy(numbers: [u32; 5]) -> KeepPolicy {
        let [last, daily, weekly, monthly, yearly] = numbers.map(NonZeroU32::new);
        KeepPolicy {
            last,
            daily,
            weekly,
            monthly,
            yearly,
        }
    }

    /// The ids that stay, and why.
    fn kept(numbers: [u32; 5], ids: &[&str]) -> Vec<String> {
        let times: Vec<DateTime> = ids.iter().map(|id| time_of_id(id).unwrap()).collect();
        let reasons = policy(numbers).reasons(&times);
        let of = |(id, reasons): (&&str, &Vec<KeepReason>)| {
            let words: Vec<String> = reasons.iter().map(KeepReason::to_string).collect();
            (!words.is_empty()).then(|| format!("{id}: {}", words.join(" + ")))
        };
        ids.iter().zip(&reasons).filter_map(of).collect()
    }

    #[test]
    fn newest_archive_of_a_period_is_kept() {
        let ids = [
            "20260302030000",
            "20260302010000",
            "20260301010000",
            "20260228010000",
            "20260131010000",
        ];
        assert_eq!(
            kept([1, 2, 0, 0, 0], &ids),
            ["20260302030000: last + daily", "20260301010000: daily"]
        );
        assert_eq!(
            kept([0, 0, 0, 3, 0], &ids),
            [
                "20260302030000: monthly",
                "20260228010000: monthly",
                "20260131010000: monthly"
            ]
        );
    }

    #[test]
    fn weeks_are_iso_weeks_across_years() {
        // Monday 29 December 2025 begins the first week of 2026.
        let ids = ["20260104000000", "20251229000000", "20251228000000"];
        assert_eq!(
            kept([0, 0, 2, 0, 0], &ids),
            ["20260104000000: weekly", "20251228000000: weekly"]
        );
    }

    #[test]
    fn oldest_archive_stays_while_rules_want_more() {
        let ids = ["20260303000000", "20260302000000", "20260301000000"];
        assert_eq!(
            kept([0, 0, 0, 2, 0], &ids),
            ["20260303000000: monthly", "20260301000000: oldest, monthly"]
        );
    }

    #[test]
    fn ids_that_are_no_times_have_none() {
        assert!(time_of_id("20260228235959").is_some());
        for id in [
            "",
            "20260230000000",
            "2026022823595",
            "20260228235960",
            "+2026022823595",
            "ä0260228235959",
        ] {
            assert_eq!(time_of_id(id), None, "{id:?}");
        }
    }

    /// The policy as its documentation words it, without a pass over the archives.
    fn stated(numbers: [u32; 5], times: &[DateTime]) -> BTreeSet<usize> {
        let mut kept = BTreeSet::new();
        for (rule, limit) in KeepRule::iter().zip(numbers) {
            let mut newest = Vec::new();
            let mut seen = BTreeSet::new();
            for (number, time) in times.iter().enumerate() {
                if seen.insert(period(rule, number, *time)) {
                    newest.push(number);
                }
            }
            let is_short = newest.len() < limit as usize;
            kept.extend(newest.into_iter().take(limit as usize));
            kept.extend(times.len().checked_sub(1).filter(|_| is_short));
        }
        kept
    }

    proptest! {
        #[test]
        fn pass_keeps_what_the_rules_state(
            numbers in proptest::array::uniform5(0_u32..6),
            hours in proptest::collection::vec(0_i64..24 * 900, 0..80),
        ) {
            let begin = time_of_id("20250101000000").unwrap();
            let mut times: Vec<DateTime> = hours
                .iter()
                .map(|hours| begin + jiff::SignedDuration::from_hours(*hours))
                .collect();
            times.sort_by(|a, b| b.cmp(a));
            let reasons = policy(numbers).reasons(&times);
            let kept: BTreeSet<usize> = (0..times.len())
                .filter(|number| !reasons[*number].is_empty())
                .collect();
            prop_assert_eq!(&kept, &stated(numbers, &times));
            // A policy that is one keeps the newest archive, whatever it is.
            prop_assert!(policy(numbers).is_empty() || times.is_empty() || kept.contains(&0));
        }
    }
}
