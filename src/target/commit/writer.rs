//! One commit until all of it is in the target: paced, tried again, halved where the service has too much of it.
//!
//! Knows what refusals mean for a batch. Must not know how many are under way.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::http::{Api, Patience, Trouble};
use super::pace::Pace;
use crate::entity::answer::{Code, numbered_key};
use crate::entity::limits::oversize;
use crate::entity::v1::{self, Deed};
use crate::model::Pair;
use crate::target::{Encoded, TargetError};

/// The emulator takes requests of 4 MiB; the rest is for the request's own fields.
const EMULATOR_MAX_BYTES: usize = (4 << 20) - (64 << 10);

/// The service takes 10 MiB.
const SERVICE_MAX_BYTES: usize = 9 << 20;

/// Who sends commits to one database.
#[derive(Debug)]
pub(super) struct Writer {
    api: Arc<Api>,
    /// None for an emulator, which wants neither pace nor ids reserved: it would answer, and hand them out all the same.
    real: Option<Real>,
}

/// What the real service asks for.
#[derive(Debug)]
struct Real {
    begun: Instant,
    paces: Mutex<HashMap<Pair, Pace>>,
}

/// A part of some encoded entities or keys, to be sent in one commit.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) pair: Arc<Pair>,
    pub(super) deed: Deed,
    pub(super) items: Arc<Encoded>,
    pub(super) range: Range<usize>,
    /// How many entities of the step stand before `items`.
    pub(super) before: u64,
}

impl Batch {
    fn items(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.items.iter().skip(self.range.start).take(self.range.len()).map(|(bytes, _)| bytes)
    }

    fn halves(&self) -> Option<(Batch, Batch)> {
        let middle = self.range.start + self.range.len() / 2;
        let part = |range| Batch { range, ..self.clone() };
        (self.range.len() > 1).then(|| (part(self.range.start..middle), part(middle..self.range.end)))
    }

    fn request(&self, api: &Api) -> Vec<u8> {
        v1::commit_request(api.project(), api.database(), self.deed, self.items())
    }
}

impl Writer {
    pub(super) fn new(api: Arc<Api>, is_real: bool) -> Self {
        let real = is_real.then(|| Real { begun: Instant::now(), paces: Mutex::default() });
        Writer { api, real }
    }

    /// How long a request may be.
    pub(super) fn request_max_bytes(&self) -> usize {
        if self.real.is_some() { SERVICE_MAX_BYTES } else { EMULATOR_MAX_BYTES }
    }

    /// Refuses what the target cannot hold. `number` is the entity's place in its step.
    pub(super) fn check(&self, pair: &Pair, number: u64, entity: &[u8]) -> Result<(), TargetError> {
        let too_large = |part: String, bytes, limit| Err(TargetError::TooLarge { kind: pair.kind.clone(), number, part, bytes, limit });
        if let Some(found) = self.real.as_ref().and_then(|_| oversize(entity)) {
            return too_large(found.part, found.bytes, found.limit);
        }
        let limit = self.request_max_bytes();
        if entity.len() > limit { too_large("a request of its own".to_owned(), entity.len(), limit) } else { Ok(()) }
    }

    /// Sends a batch until all of it is there.
    pub(super) async fn put(self: Arc<Self>, batch: Batch) -> Result<(), TargetError> {
        let mut left = vec![batch];
        let mut patience = Patience::new(&self.api, "commit");
        while let Some(batch) = left.pop() {
            self.wait_for_leave(&batch).await;
            let trouble = match self.api.commit(batch.request(&self.api).into()).await {
                Ok(()) => {
                    patience.progress();
                    self.reserve_ids(&batch).await?;
                    continue;
                }
                Err(trouble) => trouble,
            };
            let mut halved = match trouble {
                // One of them is wrong, or all together are too much.
                Trouble::Refused { code: Code::InvalidArgument, found } => match batch.halves() {
                    Some(halves) => Some(halves),
                    None => {
                        let number = batch.before + batch.range.start as u64 + 1;
                        return Err(TargetError::BadEntity { kind: batch.pair.kind.clone(), number, found });
                    }
                },
                trouble => {
                    let crowded = matches!(trouble, Trouble::Passing { crowded: true, .. });
                    patience.failed(trouble).await?;
                    batch.halves().filter(|_| crowded)
                }
            };
            match halved.take() {
                Some((first, second)) => left.extend([second, first]),
                None => left.push(batch),
            }
        }
        Ok(())
    }

    async fn wait_for_leave(&self, batch: &Batch) {
        let Some(real) = &self.real else { return };
        let wait = {
            let mut paces = real.paces.lock().unwrap_or_else(PoisonError::into_inner);
            paces.entry(Pair::clone(&batch.pair)).or_default().take(batch.range.len(), real.begun.elapsed())
        };
        tokio::time::sleep(wait).await;
    }

    /// Sees to it that the target hands no id out again that stands in a restored key.
    async fn reserve_ids(&self, batch: &Batch) -> Result<(), TargetError> {
        if self.real.is_none() || batch.deed != Deed::Upsert {
            return Ok(());
        }
        let keys: Vec<&[u8]> = batch.items().filter_map(numbered_key).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let request = bytes::Bytes::from(v1::reserve_ids_request(self.api.project(), self.api.database(), keys.into_iter()));
        let mut patience = Patience::new(&self.api, "reserveIds");
        while let Err(trouble) = self.api.message("reserveIds", request.clone()).await {
            patience.failed(trouble).await?;
        }
        Ok(())
    }
}
