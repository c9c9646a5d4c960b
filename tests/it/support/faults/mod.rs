//! Faults at numbered calls, in this process: wrappers around a store, a target or an exporter count
//! each sort of call and let the planned ones go wrong.
//!
//! A kill is a call that never returns while the command around it is dropped. What the command has
//! started does nothing afterwards.

pub mod exporter;
pub mod store;
pub mod target;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::fault_plan::FaultPlan;

/// How long a stalled call takes, in virtual time: longer than anybody waits for a file.
const STALL: Duration = Duration::from_secs(600);

/// What a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    List,
    Stat,
    Read,
    CheckNames,
    Create,
    Write,
    Publish,
    Sync,
    Remove,
    Delete,
    Count,
    Lookup,
    Settle,
    Lease,
    Open,
    Send,
    Flush,
    Finish,
    Compare,
    DeleteOthers,
    ReserveIds,
    Kinds,
    Start,
    Find,
    Poll,
}

impl Call {
    /// Whether the call changes something, so that it matters whether its answer is lost.
    pub fn changes(self) -> bool {
        !matches!(
            self,
            Call::List
                | Call::Stat
                | Call::Read
                | Call::CheckNames
                | Call::Count
                | Call::Lookup
                | Call::Compare
                | Call::Kinds
                | Call::Find
                | Call::Poll
        )
    }
}

/// A sort of calls to one place, such as `archive Read`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// What is called.
    pub place: &'static str,
    /// How.
    pub call: Call,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.place, self.call)
    }
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It fails, and nothing is done.
    Fail,
    /// It fails, and so does every call after it, wherever.
    FailForever,
    /// A read gives half of the bytes.
    ShortRead,
    /// A read gives one bit wrong.
    FlipBit,
    /// The answer takes very long.
    Stall,
    /// It is done, and the answer is an error.
    LoseAnswer,
    /// There is no room; nothing is done.
    DiskFull,
    /// It is not allowed.
    Deny,
    /// The process ends before it is done.
    KillBefore,
    /// The process ends when it is done.
    KillAfter,
}

/// What a wrapper answers in place of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// It does not work.
    Fails,
    /// There is no room.
    IsFull,
    /// It is not allowed.
    IsDenied,
}

impl Broken {
    /// What the operating system says.
    pub fn io(self) -> std::io::Error {
        match self {
            Broken::Fails => std::io::Error::other("input/output error"),
            Broken::IsFull => std::io::ErrorKind::StorageFull.into(),
            Broken::IsDenied => std::io::ErrorKind::PermissionDenied.into(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    plan: Mutex<FaultPlan<Spot, Deed>>,
    is_down: AtomicBool,
    killed: CancellationToken,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    longest_read: AtomicUsize,
}

/// The faults of one run of a command. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<State>);

impl Faults {
    /// Plans that a call goes wrong.
    pub fn plan(&self, spot: Spot, number: usize, deed: Deed) {
        self.0.plan.lock().unwrap().add(spot, number, 1, deed);
    }

    /// How often each sort of call came.
    pub fn counts(&self) -> BTreeMap<Spot, usize> {
        self.0.plan.lock().unwrap().counts().clone()
    }

    /// How many planned faults never came.
    pub fn unfired(&self) -> usize {
        self.0.plan.lock().unwrap().unfired().len()
    }

    /// How many calls were under way at once, at the most.
    pub fn most_under_way(&self) -> usize {
        self.0.most_under_way.load(Ordering::Relaxed)
    }

    /// Bytes of the longest read.
    pub fn longest_read(&self) -> usize {
        self.0.longest_read.load(Ordering::Relaxed)
    }

    /// Runs a command until it ends; none where it is killed.
    pub async fn run<T>(&self, command: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.0.killed.cancelled() => None,
            ended = command => Some(ended),
        }
    }

    /// Counts a call, and gives how it goes wrong. After a kill nothing is called any more.
    async fn next(&self, spot: Spot) -> Option<Deed> {
        if self.0.killed.is_cancelled() {
            return std::future::pending().await;
        }
        let planned = self.0.plan.lock().unwrap().next(spot);
        if planned == Some(Deed::FailForever) {
            self.0.is_down.store(true, Ordering::Relaxed);
        }
        planned.or_else(|| {
            let is_down = self.0.is_down.load(Ordering::Relaxed);
            is_down.then_some(Deed::Fail)
        })
    }

    /// Makes a call, unless it goes wrong.
    async fn call<T, E>(
        &self,
        spot: Spot,
        error: impl Fn(Broken) -> E,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let deed = self.next(spot).await;
        self.carry_out(deed, error, call).await
    }

    /// Makes a call that goes wrong in a way, or does not.
    async fn carry_out<T, E>(
        &self,
        deed: Option<Deed>,
        error: impl Fn(Broken) -> E,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let _under_way = UnderWay::new(&self.0);
        match deed {
            None | Some(Deed::ShortRead | Deed::FlipBit) => call.await,
            Some(Deed::Fail | Deed::FailForever) => Err(error(Broken::Fails)),
            Some(Deed::DiskFull) => Err(error(Broken::IsFull)),
            Some(Deed::Deny) => Err(error(Broken::IsDenied)),
            Some(Deed::Stall) => {
                tokio::time::sleep(STALL).await;
                call.await
            }
            Some(Deed::LoseAnswer) => {
                call.await?;
                Err(error(Broken::Fails))
            }
            Some(Deed::KillBefore) => self.die().await,
            Some(Deed::KillAfter) => {
                call.await.ok();
                self.die().await
            }
        }
    }

    /// Ends the command. The call never returns.
    async fn die<T>(&self) -> T {
        self.0.killed.cancel();
        std::future::pending().await
    }
}

/// A call that is under way.
struct UnderWay<'a>(&'a State);

impl<'a> UnderWay<'a> {
    fn new(state: &'a State) -> Self {
        let before = state.under_way.fetch_add(1, Ordering::Relaxed);
        state
            .most_under_way
            .fetch_max(before + 1, Ordering::Relaxed);
        UnderWay(state)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
