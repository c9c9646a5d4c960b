//! A dry run: another target's eyes, and hands that do nothing.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::{Progress, StepContext, StepWriter, Target, TargetError};
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

    fn look_up(&self, entities: Encoded) -> BoxFuture<'_, Result<u64, TargetError>> {
        self.0.look_up(entities)
    }

    fn settle(&self) -> BoxFuture<'_, Result<(), TargetError>> {
        self.0.settle()
    }

    fn open<'a>(
        &'a self,
        _: &'a StepContext,
        _: Progress,
    ) -> BoxFuture<'a, Result<Box<dyn StepWriter>, TargetError>> {
        Box::pin(async { Ok(Box::new(NullSink(Progress::default())) as Box<dyn StepWriter>) })
    }

    fn differing<'a>(&'a self, _: Vec<Value>) -> BoxFuture<'a, Result<Option<u64>, TargetError>> {
        Box::pin(async { Ok(None) })
    }
}

#[derive(Debug)]
struct NullSink(Progress);

impl StepWriter for NullSink {
    fn write<'a>(&'a mut self, batch: Encoded) -> BoxFuture<'a, Result<Progress, TargetError>> {
        self.0 = self.0.and(batch.len() as u64);
        Box::pin(async move { Ok(self.0) })
    }

    fn end_piece(&mut self) {
        self.0 = self.0.at_piece_end();
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<Progress, TargetError>> {
        Box::pin(async move { Ok(self.0) })
    }
}
