//! How much a sample takes, how long a restore may take, and what the real service bills for it.
//! Rough, from rates that were measured or are documented.
//!
//! Knows numbers and kinds of targets. It measures nothing.

use super::ordering::PlanOrder;
use super::selected::SelectedKind;
use super::{Choices, WriteMethod};
use crate::model::{Sample, TargetPlace, TargetSpec};

/// What a way into a target takes: a rate of entities, a rate of bytes (the slower one counts), and
/// a time for each step.
struct ThroughputEstimate {
    entities_per_second: u64,
    bytes_per_second: u64,
    milliseconds_per_step: u64,
}

/// Protobuf commits from eight connections into the emulator: `docs/performance.md`.
const EMULATOR_COMMIT: ThroughputEstimate = ThroughputEstimate {
    entities_per_second: 15_000,
    bytes_per_second: 12_000_000,
    milliseconds_per_step: 100,
};
/// The emulator's own import: `docs/formats.md` 8.
const EMULATOR_IMPORT: ThroughputEstimate = ThroughputEstimate {
    entities_per_second: 6_000,
    bytes_per_second: 8_000_000,
    milliseconds_per_step: 200,
};
/// An operation of the service takes about a minute however little it has to do.
const SERVICE_IMPORT: ThroughputEstimate = ThroughputEstimate {
    entities_per_second: 5_000,
    bytes_per_second: 10_000_000,
    milliseconds_per_step: 60_000,
};
/// Files of this machine, synced when they are whole.
const FILES: ThroughputEstimate = ThroughputEstimate {
    entities_per_second: 200_000,
    bytes_per_second: 100_000_000,
    milliseconds_per_step: 10,
};

/// The service asks for 500 writes a second at first, and half as many again each five minutes.
const RAMP_BEGIN: u64 = 500;
const RAMP_SECONDS: u64 = 300;
/// What eight connections bring about into the service once it is warm.
const RAMP_END: u64 = 10_000;

/// How long a restore of so much may take, in seconds.
pub(super) fn seconds(
    target: &TargetSpec,
    via: WriteMethod,
    steps: u64,
    entities: u64,
    bytes: u64,
) -> u64 {
    let pace = match (target.place(), via) {
        (TargetPlace::Service { .. }, WriteMethod::Commit) => return ramped(entities),
        (TargetPlace::Service { .. }, WriteMethod::Import) => SERVICE_IMPORT,
        (TargetPlace::Emulator { .. }, WriteMethod::Commit) => EMULATOR_COMMIT,
        (TargetPlace::Emulator { .. }, WriteMethod::Import) => EMULATOR_IMPORT,
        (TargetPlace::Folder { .. }, _) => FILES,
    };
    let brought = (entities / pace.entities_per_second).max(bytes / pace.bytes_per_second);
    brought.saturating_add(
        steps
            .saturating_mul(pace.milliseconds_per_step)
            .div_ceil(1000),
    )
}

fn ramped(mut entities: u64) -> u64 {
    let (mut rate, mut seconds) = (RAMP_BEGIN, 0);
    while rate < RAMP_END && entities > rate * RAMP_SECONDS {
        entities -= rate * RAMP_SECONDS;
        seconds += RAMP_SECONDS;
        rate = rate * 3 / 2;
    }
    seconds + entities.div_ceil(rate)
}

/// How much of a step is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepSize {
    pub entities: u64,
    pub bytes: u64,
}

/// How much of each step is restored, by its number. Of a kind that comes along because others need
/// it, about as many entities as are chosen of those: each needs one or so.
pub(super) fn sizes(arrangement: &PlanOrder<'_>, choices: &Choices) -> Vec<StepSize> {
    let taken = || arrangement.taken.iter();
    let Some(sample) = choices.sample else {
        return taken().map(whole_size).collect();
    };
    let sampled = |sample: Sample, taken: &SelectedKind<'_>| {
        sampled(sample, taken.item.entities, taken.item.bytes)
    };
    let is_chosen = |taken: &SelectedKind<'_>| choices.selection.is_chosen(&taken.pair);
    let chosen = taken().map(|taken| is_chosen(taken).then(|| sampled(sample, taken)));
    let chosen: Vec<Option<StepSize>> = chosen.collect();
    let entities = chosen.iter().flatten().map(|size| size.entities);
    let needed = Sample::Limit(entities.fold(0, u64::saturating_add));
    let all = taken().zip(chosen);
    all.map(|(taken, chosen)| chosen.unwrap_or_else(|| sampled(needed, taken)))
        .collect()
}

fn whole_size(taken: &SelectedKind<'_>) -> StepSize {
    StepSize {
        entities: taken.item.entities,
        bytes: taken.item.bytes,
    }
}

/// What a sample takes of so many entities: a share is met about, a number exactly.
fn sampled(sample: Sample, entities: u64, bytes: u64) -> StepSize {
    const WHOLE: u64 = 1_000_000;
    let part = |of: u64, numerator: u64, denominator: u64| {
        let product = u128::from(of) * u128::from(numerator.min(denominator));
        u64::try_from(product.div_ceil(u128::from(denominator.max(1))))
            .expect("a part is no larger than the whole")
    };
    let (numerator, denominator) = match sample {
        Sample::Share(millionths) => (millionths.into(), WHOLE),
        Sample::Limit(limit) => (limit, entities),
    };
    StepSize {
        entities: part(entities, numerator, denominator),
        bytes: part(bytes, numerator, denominator),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ramp_of_the_service_is_followed() {
        assert_eq!(
            [0, 1, 100_000, 150_000, 150_001, 375_000].map(ramped),
            [0, 1, 200, 300, 301, 600]
        );
        assert!(ramped(u64::MAX) < u64::MAX / 5_000);
    }

    #[test]
    fn each_write_method_has_its_own_estimate() {
        let targets = [
            "datastore:shop-test",
            "emulator:shop-test@localhost:1",
            "dir:out",
            "ndjson:out",
        ];
        for target in targets.map(|target| target.parse::<TargetSpec>().unwrap()) {
            for via in [WriteMethod::Commit, WriteMethod::Import] {
                assert_eq!(seconds(&target, via, 0, 0, 0), 0);
                assert!(seconds(&target, via, 1, 1, 1) >= 1);
                assert!(seconds(&target, via, u64::MAX, u64::MAX, u64::MAX) > 1 << 40);
            }
        }
        let import = seconds(
            &"datastore:shop-test".parse().unwrap(),
            WriteMethod::Import,
            60,
            1000,
            1000,
        );
        assert_eq!(import, 3600);
    }

    #[test]
    fn a_sample_is_counted_as_what_it_takes() {
        let of = |sample, entities, bytes| {
            let StepSize { entities, bytes } = sampled(sample, entities, bytes);
            (entities, bytes)
        };
        assert_eq!(of(Sample::Share(50_000), 10, 500), (1, 25));
        assert_eq!(of(Sample::Limit(3), 10, 500), (3, 150));
        assert_eq!(
            (of(Sample::Limit(30), 10, 500), of(Sample::Limit(3), 0, 0)),
            ((10, 500), (0, 0))
        );
        assert_eq!(
            of(Sample::Share(1_000_000), u64::MAX, u64::MAX),
            (u64::MAX, u64::MAX)
        );
    }
}
