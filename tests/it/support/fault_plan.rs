//! Which calls of a stand-in go wrong, and how.

use std::collections::BTreeMap;
use std::fmt::Debug;

/// A planned fault: calls of some numbers go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault<C, D> {
    /// Which call.
    pub call: C,
    /// The first one that goes wrong, counted from 0 for each call.
    pub from: usize,
    /// How many go wrong.
    pub times: usize,
    /// How.
    pub deed: D,
    has_fired: bool,
}

/// The faults of one stand-in, and how often each call came.
#[derive(Debug)]
pub struct FaultPlan<C, D> {
    faults: Vec<Fault<C, D>>,
    counts: BTreeMap<C, usize>,
}

impl<C, D> Default for FaultPlan<C, D> {
    fn default() -> Self {
        FaultPlan {
            faults: Vec::new(),
            counts: BTreeMap::new(),
        }
    }
}

impl<C: Copy + Ord, D: Copy> FaultPlan<C, D> {
    /// Plans that `times` calls go wrong, from the number `from` on.
    pub fn add(&mut self, call: C, from: usize, times: usize, deed: D) {
        self.faults.push(Fault {
            call,
            from,
            times,
            deed,
            has_fired: false,
        });
    }

    /// Counts a call, and gives how it goes wrong.
    pub fn next(&mut self, call: C) -> Option<D> {
        self.next_if(call, |_| true)
    }

    /// As [`FaultPlan::next`], of the faults that apply to this call.
    pub fn next_if(&mut self, call: C, applies: impl Fn(D) -> bool) -> Option<D> {
        let count = self.counts.entry(call).or_default();
        let number = *count;
        *count += 1;
        let fault = self.faults.iter_mut().find(|fault| {
            fault.call == call
                && (fault.from..fault.from.saturating_add(fault.times)).contains(&number)
                && applies(fault.deed)
        })?;
        fault.has_fired = true;
        Some(fault.deed)
    }

    /// How often a call came.
    pub fn count(&self, call: C) -> usize {
        self.counts.get(&call).copied().unwrap_or_default()
    }

    /// How often each call came.
    pub fn counts(&self) -> &BTreeMap<C, usize> {
        &self.counts
    }

    /// Faults that never happened: a test that planned them has tested nothing.
    pub fn unfired(&self) -> Vec<Fault<C, D>> {
        let unfired = self.faults.iter().filter(|fault| !fault.has_fired);
        unfired.copied().collect()
    }
}
