//! What every command gets, and what each gives back.

use std::sync::Arc;

use super::exit::ExitCode;
use super::failure::{Failure, PlaceNames};
use super::keys::IdentityFiles;
use super::output::Ui;
use super::signals::StopRequest;
use super::state_dir::StateFolder;
use crate::runtime::workers::Workers;
use crate::store::StoreRegistry;
use crate::targets::Timeouts;

/// What every command gets.
pub struct Context {
    pub ui: Arc<Ui>,
    pub workers: Workers,
    pub stores: StoreRegistry,
    pub stop: StopRequest,
    pub state: StateFolder,
    /// What opens encrypted archives.
    pub identities: IdentityFiles,
    /// What the user calls the places that hints speak of.
    pub names: PlaceNames,
    /// How patient calls of a Datastore are.
    pub timeouts: Timeouts,
}

/// How a command ended well: with 0, or with a code that says more and is no failure.
pub type CommandResult = Result<ExitCode, Failure>;
