//! A dry run: another target's eyes, and hands that do nothing.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::{StepContext, StepProgress, StepWriter, Target, TargetError};
use crate::model::KindRef;
use crate::transform::{Encoded, Encoding};

/// Asks the real target what it holds, reads and encodes every entity, writes none.
#[derive(Debug, Clone)]
pub struct DryRun(pub Arc<dyn Target>);

#[async_trait]
impl Target for DryRun {
    fn encoding(&self) -> Encoding {
        self.0.encoding()
    }

    fn resumes_within_steps(&self) -> bool {
        false
    }

    async fn count(&self, pair: &KindRef) -> Result<u64, TargetError> {
        self.0.count(pair).await
    }

    async fn check_names(&self, step: &StepContext) -> Result<(), TargetError> {
        self.0.check_names(step).await
    }

    fn is_looked_up(&self) -> bool {
        self.0.is_looked_up()
    }

    async fn lookup(&self, entities: Encoded) -> Result<u64, TargetError> {
        self.0.lookup(entities).await
    }

    async fn finish_cleanup(&self) -> Result<(), TargetError> {
        self.0.finish_cleanup().await
    }

    async fn open(
        &self,
        _: &StepContext,
        _: StepProgress,
    ) -> Result<Box<dyn StepWriter>, TargetError> {
        Ok(Box::new(NullSink(StepProgress::default())) as Box<dyn StepWriter>)
    }

    async fn differing(&self, _: Vec<Value>) -> Result<Option<u64>, TargetError> {
        Ok(None)
    }
}

#[derive(Debug)]
struct NullSink(StepProgress);

#[async_trait]
impl StepWriter for NullSink {
    async fn write(&mut self, batch: Encoded) -> Result<StepProgress, TargetError> {
        self.0 = self.0.and(batch.len() as u64);
        Ok(self.0)
    }

    fn end_piece(&mut self) {
        self.0 = self.0.plus_piece();
    }

    async fn finish(self: Box<Self>) -> Result<StepProgress, TargetError> {
        Ok(self.0)
    }
}
