//! A target at whose calls faults are planned.

use std::sync::Arc;

use async_trait::async_trait;
use kindpack::model::KindRef;
use kindpack::targets::{
    KeySet, Lease, StepContext, StepProgress, StepWriter, Target, TargetError,
};
use kindpack::transform::{Encoded, Encoding};
use serde_json::Value;

use super::{Broken, Call, Faults, Spot};

/// How plans name it.
const PLACE: &str = "target";

/// A target behind planned faults.
#[derive(Debug, Clone)]
pub struct FaultTarget {
    inner: Arc<dyn Target>,
    faults: Faults,
}

impl FaultTarget {
    /// Puts planned faults before the calls of another one.
    pub fn wrap(inner: Arc<dyn Target>, faults: &Faults) -> Arc<dyn Target> {
        Arc::new(FaultTarget {
            inner,
            faults: faults.clone(),
        })
    }
}

async fn call<T>(
    faults: &Faults,
    call: Call,
    work: impl Future<Output = Result<T, TargetError>>,
) -> Result<T, TargetError> {
    let error = |broken: Broken| TargetError::Io {
        name: PLACE.to_owned(),
        deed: "using",
        source: broken.io(),
    };
    faults.call(Spot { place: PLACE, call }, error, work).await
}

#[async_trait]
impl Target for FaultTarget {
    fn encoding(&self) -> Encoding {
        self.inner.encoding()
    }

    fn resumes_within_steps(&self) -> bool {
        self.inner.resumes_within_steps()
    }

    async fn count(&self, pair: &KindRef) -> Result<u64, TargetError> {
        call(&self.faults, Call::Count, self.inner.count(pair)).await
    }

    async fn check_names(&self, step: &StepContext) -> Result<(), TargetError> {
        let checked = self.inner.check_names(step);
        call(&self.faults, Call::CheckNames, checked).await
    }

    fn is_looked_up(&self) -> bool {
        self.inner.is_looked_up()
    }

    async fn lookup(&self, entities: Encoded) -> Result<u64, TargetError> {
        call(&self.faults, Call::Lookup, self.inner.lookup(entities)).await
    }

    async fn finish_cleanup(&self) -> Result<(), TargetError> {
        call(&self.faults, Call::Settle, self.inner.finish_cleanup()).await
    }

    async fn reserve_ids(&self, pair: &KindRef, entities: Encoded) -> Result<(), TargetError> {
        let reserved = self.inner.reserve_ids(pair, entities);
        call(&self.faults, Call::ReserveIds, reserved).await
    }

    fn unreserved_kinds(&self) -> usize {
        self.inner.unreserved_kinds()
    }

    async fn delete_others(&self, pair: &KindRef, keep: &KeySet) -> Result<u64, TargetError> {
        let deleted = self.inner.delete_others(pair, keep);
        call(&self.faults, Call::DeleteOthers, deleted).await
    }

    async fn lease(&self, holder: &str) -> Result<Option<Lease>, TargetError> {
        call(&self.faults, Call::Lease, self.inner.lease(holder)).await
    }

    async fn open(
        &self,
        step: &StepContext,
        done: StepProgress,
    ) -> Result<Box<dyn StepWriter>, TargetError> {
        let opened = self.inner.open(step, done);
        let inner = call(&self.faults, Call::Open, opened).await?;
        let faults = self.faults.clone();
        Ok(Box::new(FaultStepWriter { inner, faults }))
    }

    async fn differing(&self, wanted: Vec<Value>) -> Result<Option<u64>, TargetError> {
        call(&self.faults, Call::Compare, self.inner.differing(wanted)).await
    }
}

#[derive(Debug)]
struct FaultStepWriter {
    inner: Box<dyn StepWriter>,
    faults: Faults,
}

#[async_trait]
impl StepWriter for FaultStepWriter {
    async fn write(&mut self, batch: Encoded) -> Result<StepProgress, TargetError> {
        call(&self.faults, Call::Send, self.inner.write(batch)).await
    }

    fn end_piece(&mut self) {
        self.inner.end_piece();
    }

    async fn flush(&mut self) -> Result<StepProgress, TargetError> {
        call(&self.faults, Call::Flush, self.inner.flush()).await
    }

    async fn finish(self: Box<Self>) -> Result<StepProgress, TargetError> {
        let FaultStepWriter { inner, faults } = *self;
        call(&faults, Call::Finish, inner.finish()).await
    }
}
