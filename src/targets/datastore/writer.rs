//! One commit until all of it is in the target: paced, tried again, halved where the service has
//! too much of it.
//!
//! Knows what refusals mean for a batch. Must not know how many are under way.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::ramp::WriteRamp;
use crate::datastore::app_engine;
use crate::datastore::client::{DatastoreAttemptError, DatastoreClient};
use crate::datastore::emulator_product::EmulatorProduct;
use crate::datastore::error::DatastoreError;
use crate::datastore::limits::find_oversized;
use crate::datastore::status::{Code, ids_of_key, key_of_message, numbered_key};
use crate::entity::message::{self, Mutation};
use crate::google::refusal::MEANING_MISMATCH;
use crate::google::retry::RetryLoop;
use crate::model::KindRef;
use crate::targets::TargetError;
use crate::transform::Encoded;

/// The emulator takes requests of 4 MiB; the rest is for the request's own fields.
const MAX_EMULATOR_BYTES: usize = (4 << 20) - (64 << 10);

/// The service takes 10 MiB.
const MAX_SERVICE_BYTES: usize = 9 << 20;

/// Commits that an emulator gets at once, from all steps. One that stores on disk, as `gcloud`
/// starts it, stops for ever when four of them come while it saves; more than two make no emulator
/// faster.
const MAX_EMULATOR_CONCURRENT: usize = 2;

/// Who sends commits to one database.
#[derive(Debug)]
pub(super) struct Writer {
    api: Arc<DatastoreClient>,
    /// None for the real service, whose limit is its pace.
    permits: Option<Semaphore>,
    /// None for an emulator, which wants no pace.
    real: Option<ServicePacing>,
    /// Whether the service was seen to refuse the meaning of places that were stored without one.
    refuses_place_meanings: AtomicBool,
    /// How far the counter of an emulator is known to be, from which it takes new ids.
    counter: AtomicI64,
    /// Kinds whose restored ids an emulator may hand out again.
    unreserved: Mutex<HashSet<KindRef>>,
}

/// What the real service asks for.
#[derive(Debug)]
struct ServicePacing {
    begun: Instant,
    paces: Mutex<HashMap<KindRef, WriteRamp>>,
}

/// A part of some encoded entities or keys, to be sent in one commit.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) pair: Arc<KindRef>,
    pub(super) deed: Mutation,
    pub(super) items: Arc<Encoded>,
    pub(super) range: Range<usize>,
    /// How many entities of the step stand before `items`.
    pub(super) before: u64,
}

impl Batch {
    /// All of some entities.
    pub(super) fn whole(pair: KindRef, items: Encoded) -> Self {
        Batch {
            pair: Arc::new(pair),
            deed: Mutation::Upsert,
            range: 0..items.len(),
            items: Arc::new(items),
            before: 0,
        }
    }

    fn items(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.items
            .iter()
            .skip(self.range.start)
            .take(self.range.len())
            .map(|(bytes, _)| bytes)
    }

    /// Its halves, the second one first; none where it has one item.
    fn split_in_half(&self) -> Option<[Batch; 2]> {
        let Range { start, end } = self.range;
        let middle = start + self.range.len() / 2;
        (self.range.len() > 1).then(|| [self.part(middle..end), self.part(start..middle)])
    }

    fn part(&self, range: Range<usize>) -> Batch {
        Batch {
            range,
            ..self.clone()
        }
    }

    /// That its only entity was refused.
    fn rejected(&self, reason: String) -> TargetError {
        TargetError::EntityRejected {
            kind: self.pair.kind.clone(),
            number: self.before + self.range.start as u64 + 1,
            reason,
        }
    }

    /// The same without the meanings of places; none where there are none.
    fn without_place_meanings(&self) -> Option<Batch> {
        let without: Vec<_> = self
            .items()
            .map(|item| (message::without_place_meanings(item), item))
            .collect();
        without
            .iter()
            .any(|(without, _)| without.is_some())
            .then(|| {
                let mut items = Encoded::default();
                for ((without, item), (_, key)) in
                    without.iter().zip(self.items.iter().skip(self.range.start))
                {
                    items.push(without.as_deref().unwrap_or(item), key);
                }
                let before = self.before + self.range.start as u64;
                Batch {
                    range: 0..items.len(),
                    items: Arc::new(items),
                    before,
                    ..self.clone()
                }
            })
    }

    fn request(&self, api: &DatastoreClient) -> Vec<u8> {
        message::commit_request(api.project(), api.database(), self.deed, self.items())
    }
}

impl Writer {
    pub(super) fn new(api: Arc<DatastoreClient>, is_real: bool) -> Self {
        let real = is_real.then(|| ServicePacing {
            begun: Instant::now(),
            paces: Mutex::default(),
        });
        Writer {
            api,
            permits: (!is_real).then(|| Semaphore::new(MAX_EMULATOR_CONCURRENT)),
            real,
            refuses_place_meanings: AtomicBool::new(false),
            counter: AtomicI64::new(0),
            unreserved: Mutex::default(),
        }
    }

    /// How long a request may be.
    pub(super) fn request_max_bytes(&self) -> usize {
        if self.real.is_some() {
            MAX_SERVICE_BYTES
        } else {
            MAX_EMULATOR_BYTES
        }
    }

    /// Whether the target has the limits of the real service: all emulators but one lack them.
    pub(super) async fn has_service_limits(&self) -> Result<bool, DatastoreError> {
        let product = self.api.emulator_product().await?;
        Ok(product.is_none_or(EmulatorProduct::has_service_limits))
    }

    /// Refuses what the target cannot hold. `number` is the entity's place in its step.
    pub(super) fn check(
        &self,
        pair: &KindRef,
        number: u64,
        entity: &[u8],
        has_service_limits: bool,
    ) -> Result<(), TargetError> {
        let too_large = |part: String, bytes, limit| {
            Err(TargetError::TooLarge {
                kind: pair.kind.clone(),
                number,
                part,
                bytes,
                limit,
            })
        };
        let oversized = has_service_limits.then(|| find_oversized(entity)).flatten();
        if let Some(found) = oversized {
            return too_large(found.part, found.bytes, found.limit);
        }
        let limit = self.request_max_bytes();
        if entity.len() > limit {
            too_large("a request of its own".to_owned(), entity.len(), limit)
        } else {
            Ok(())
        }
    }

    /// Sends a batch until all of it is there.
    pub(super) async fn send(self: Arc<Self>, batch: Batch) -> Result<(), TargetError> {
        let _permit = match &self.permits {
            Some(permits) => Some(permits.acquire().await.expect("nobody closes it")),
            None => None,
        };
        let mut left = vec![batch];
        let mut retry = self.api.retry_loop("commit");
        while let Some(batch) = left.pop() {
            let batch = self.without_refused_meanings(batch);
            match self.commit(&batch).await {
                Ok(()) => {
                    retry.progress();
                    self.reserve_ids(&batch).await?;
                }
                Err(error) => left.extend(self.retried(batch, error, &mut retry).await?),
            }
        }
        Ok(())
    }

    fn without_refused_meanings(&self, batch: Batch) -> Batch {
        if self.refuses_place_meanings.load(Ordering::Relaxed) {
            batch.without_place_meanings().unwrap_or(batch)
        } else {
            batch
        }
    }

    async fn commit(&self, batch: &Batch) -> Result<(), DatastoreAttemptError> {
        self.acquire(batch).await;
        let request = batch.request(&self.api).into();
        self.api.commit(request, batch.range.len()).await
    }

    /// What is to be sent of a batch that was not taken, the last first: all of it, or its halves.
    async fn retried(
        &self,
        batch: Batch,
        error: DatastoreAttemptError,
        retry: &mut RetryLoop<'_>,
    ) -> Result<Vec<Batch>, TargetError> {
        let halves = match error {
            DatastoreAttemptError::Refused {
                code: Code::InvalidArgument,
                found,
            } => self.halves_of_refused(&batch, found)?,
            error => {
                let is_overloaded = error.is_overloaded();
                retry.failed(error).await?;
                batch.split_in_half().filter(|_| is_overloaded)
            }
        };
        Ok(halves.map_or_else(|| vec![batch], Vec::from))
    }

    /// The halves of a batch that was refused as it is; none where it is sent again in another way.
    fn halves_of_refused(
        &self,
        batch: &Batch,
        found: String,
    ) -> Result<Option<[Batch; 2]>, TargetError> {
        if found.ends_with(MEANING_MISMATCH) && batch.without_place_meanings().is_some() {
            self.refuses_place_meanings.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        // One of them is wrong, or all together are too much.
        match batch.split_in_half() {
            None => Err(batch.rejected(found)),
            halves => Ok(halves),
        }
    }

    async fn acquire(&self, batch: &Batch) {
        let Some(real) = &self.real else { return };
        let wait = {
            let mut paces = real.paces.lock().unwrap_or_else(PoisonError::into_inner);
            paces
                .entry(KindRef::clone(&batch.pair))
                .or_default()
                .acquire(batch.range.len(), real.begun.elapsed())
        };
        tokio::time::sleep(wait).await;
    }

    /// Sees to it that the target hands no id out again that stands in a restored key.
    pub(super) async fn reserve_ids(&self, batch: &Batch) -> Result<(), DatastoreError> {
        if batch.deed != Mutation::Upsert {
            return Ok(());
        }
        let product = self.api.emulator_product().await?;
        let has_own_counter = product.is_some_and(EmulatorProduct::has_own_id_counter);
        if has_own_counter && self.reserve_by_counter(batch).await? {
            return Ok(());
        }
        let Some(request) = self.reservation(batch) else {
            return Ok(());
        };
        if product.is_none() {
            return self.reserve(request).await;
        }
        // An emulator that cannot do it hands out the ids that it hands out.
        if self.api.message("reserveIds", request).await.is_err() {
            self.note_unreserved(batch);
        }
        Ok(())
    }

    /// The request to reserve the ids in the keys of a batch; none where there are none.
    fn reservation(&self, batch: &Batch) -> Option<Bytes> {
        let keys = self.keys_to_reserve(batch);
        let (project, database) = (self.api.project(), self.api.database());
        (!keys.is_empty())
            .then(|| message::reserve_ids_request(project, database, keys.into_iter()).into())
    }

    async fn reserve(&self, request: Bytes) -> Result<(), DatastoreError> {
        let mut retry = self.api.retry_loop("reserveIds");
        while let Err(error) = self.api.message("reserveIds", request.clone()).await {
            retry.failed(error).await?;
        }
        Ok(())
    }

    fn note_unreserved(&self, batch: &Batch) {
        let unreserved = self.unreserved.lock();
        let mut unreserved = unreserved.unwrap_or_else(PoisonError::into_inner);
        unreserved.insert(KindRef::clone(&batch.pair));
    }

    /// The keys of a batch that hold ids. Some emulators stumble over ids that nobody can be given.
    fn keys_to_reserve<'a>(&self, batch: &'a Batch) -> Vec<&'a [u8]> {
        let can_be_given = |key: &&[u8]| {
            self.real.is_some() || ids_of_key(key).all(|id| app_engine::counter_of(id).is_some())
        };
        batch
            .items()
            .filter_map(numbered_key)
            .filter(can_be_given)
            .collect()
    }

    /// Moves the counter of an emulator past the ids of a batch; says whether nothing else is to be
    /// done for them.
    async fn reserve_by_counter(&self, batch: &Batch) -> Result<bool, DatastoreError> {
        let ids = batch
            .items()
            .filter_map(key_of_message)
            .flat_map(ids_of_key);
        let counter = ids.filter_map(app_engine::counter_of).max();
        let known = self.counter.load(Ordering::Relaxed);
        let Some(counter) = counter.filter(|counter| *counter > known) else {
            return Ok(true);
        };
        let moved = self.move_counter(counter).await?;
        // Over HTTP the counter cannot be moved.
        if moved == Some(false) || moved.is_none() && !self.api.has_grpc().await {
            self.note_unreserved(batch);
        }
        Ok(moved.is_some())
    }

    /// Moves the counter of the Datastore emulator past a restored id. Says whether that was done;
    /// none where there is no such counter.
    async fn move_counter(&self, counter: i64) -> Result<Option<bool>, DatastoreError> {
        let mut retry = self.api.retry_loop("AllocateIds");
        loop {
            match self
                .api
                .app_engine(app_engine::reserve(self.api.project(), counter))
                .await
            {
                Ok(answer) if app_engine::is_reserved(&answer, counter) => {
                    self.counter.fetch_max(counter, Ordering::Relaxed);
                    return Ok(Some(true));
                }
                Ok(_) => return Ok(Some(false)),
                Err(
                    DatastoreAttemptError::UnknownMethod | DatastoreAttemptError::Refused { .. },
                ) => return Ok(None),
                Err(error) => retry.failed(error).await?,
            }
        }
    }

    /// How many kinds have restored ids that the target may hand out again.
    pub(super) fn unreserved_kinds(&self) -> usize {
        self.unreserved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}
