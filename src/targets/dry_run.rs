//! A dry run: another target's eyes, and hands that do nothing.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::{StepContext, StepProgress, StepWriter, Target, TargetError};
use crate::model::KindRef;
use crate::transform::{Encoded, Encoding};

/// Asks the real target what it holds, reads and encodes every entity, writes none.
#[derive(Debug, Clone)]
pub struct DryRun(pub Arc<dyn Target>);

impl Target for DryRun {
    fn encoding(&self) -> Encoding {
        self.0.encoding()
    }

    fn resumes_within_steps(&self) -> bool {
        false
    }

    fn count<'a>(&'a self, pair: &'a KindRef) -> BoxFuture<'a, Result<u64, TargetError>> {
        self.0.count(pair)
    }

    fn check_names<'a>(&'a self, step: &'a StepContext) -> BoxFuture<'a, Result<(), TargetError>> {
        self.0.check_names(step)
    }

    fn is_looked_up(&self) -> bool {
        self.0.is_looked_up()
    }

    fn lookup(&self, entities: Encoded) -> BoxFuture<'_, Result<u64, TargetError>> {
        self.0.lookup(entities)
    }

    fn finish_cleanup(&self) -> BoxFuture<'_, Result<(), TargetError>> {
        self.0.finish_cleanup()
    }

    fn open<'a>(
        &'a self,
        _: &'a StepContext,
        _: StepProgress,
    ) -> BoxFuture<'a, Result<Box<dyn StepWriter>, TargetError>> {
        Box::pin(async { Ok(Box::new(NullSink(StepProgress::default())) as Box<dyn StepWriter>) })
    }

    fn differing<'a>(&'a self, _: Vec<Value>) -> BoxFuture<'a, Result<Option<u64>, TargetError>> {
        Box::pin(async { Ok(None) })
    }
}

#[derive(Debug)]
struct NullSink(StepProgress);

impl StepWriter for NullSink {
    fn write<'a>(&'a mut self, batch: Encoded) -> BoxFuture<'a, Result<StepProgress, TargetError>> {
        self.0 = self.0.and(batch.len() as u64);
        Box::pin(async move { Ok(self.0) })
    }

    fn end_piece(&mut self) {
        self.0 = self.0.plus_piece();
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<StepProgress, TargetError>> {
        Box::pin(async move { Ok(self.0) })
    }
}
