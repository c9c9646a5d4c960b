//! One page to look at an archive, a plan or a restore: sizes, times, dependencies.
//!
//! The page is a value first, made of the manifest, the plan and the journal without any I/O or
//! clock; a template then writes it as HTML that loads nothing and needs no script. It knows names
//! and numbers, and must not know how an archive is read, nor hold a value of any property.

mod axis;
mod export_timeline;
mod graph;
mod graph_layout;
mod header;
mod html;
mod kind_table;
mod page;
mod restore_section;
mod step_table;
#[cfg(test)]
mod tests;
mod treemap;
mod values;

pub use html::{PAGE_HEAD, to_html};
pub use page::{FinishedRun, PlanPageSource, ReportPage, default_order};
