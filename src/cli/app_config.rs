//! The configuration's applications, with the files that they name.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::input_file::read_input_file;
use crate::backup::QueueSettings;
use crate::config::{AppConfig, Config};

/// The configuration that is read where none is named.
pub const CONFIG_FILE: &str = "kindpack.toml";

/// Configurations and queues longer than this are none.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads a configuration.
pub async fn read_config(path: &Path) -> Result<Config, Failure> {
    let text = read_input_file(path, MAX_FILE_BYTES).await?;
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    Ok(Config::read(&text, &path.display().to_string(), &folder)?)
}

/// The application with the numbers of its `queue.yaml`, where it names one.
pub async fn with_queue_file(mut app: AppConfig) -> Result<AppConfig, Failure> {
    let Some(file) = &app.queue_file else {
        return Ok(app);
    };
    let text = read_input_file(&file.path, MAX_FILE_BYTES).await?;
    let settings = QueueSettings::read(&text, file.name.as_deref());
    let settings =
        settings.map_err(|error| Failure::usage(format!("{}: {error}", file.path.display())))?;
    app.backup.queue = settings.over(app.backup.queue);
    Ok(app)
}
