//! `kindpack demo`: every step on a backup that the program carries. Each command is shown and then
//! run as it is shown.

mod exports;
mod session;
mod transcript;

use std::fs::{self, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use serde_json::json;

use self::session::DemoSession;
use crate::archive::Archive;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::open_archive::{ArchiveLocation, find_at};
use crate::cli::text::shell_quote;
use crate::datastore::emulator::{self, EmulatorError};
use crate::datastore::emulator_product::EmulatorProduct;
use crate::model::address::host_and_port;
use crate::store::Location;

const ARCHIVE: &str = "backup.zip";

/// A copy of the archive that does not verify.
const DAMAGED: &str = "damaged.zip";

/// What is in the name of the entry that is damaged.
const DAMAGED_ENTRY: &str = "/lyon/Order/";

pub async fn run(context: &Context, wanted: Option<EmulatorProduct>) -> CommandResult {
    let session = DemoSession::new(context)?;
    exports::write(&session.folder.join("exports"))?;
    say_beginning(&session);
    pack_and_read(&session).await?;
    verify_damaged(&session).await?;
    plan_and_restore(&session).await?;
    redact(&session).await?;
    let emulator = restore_into_emulator(&session, wanted).await?;
    say_end(&session);
    let folder = session.folder.display().to_string();
    let event = json!({"folder": folder, "emulator": emulator});
    context.ui.done(event);
    Ok(ExitCode::Done)
}

fn say_beginning(session: &DemoSession<'_>) {
    session.say("The backup of an application with two shops, berlin and lyon: one export");
    session.say("for each kind and namespace, made by Google's Datastore emulator.");
    session.say("To repeat the commands below, type these two lines first:");
    session.say_preparation();
}

async fn pack_and_read(session: &DemoSession<'_>) -> Result<(), Failure> {
    session
        .say_heading("1. Pack the exports into one zip. Incomplete or damaged ones are refused.");
    let source = format!("exports/{}", exports::run_name());
    session.kindpack(&["pack", &source, ARCHIVE]).await?;
    session.say_heading("2. See what is in it. Any unzip tool opens it, too.");
    session.kindpack(&["list", ARCHIVE]).await?;
    session.say_heading("3. Check every byte.");
    session.kindpack(&["verify", ARCHIVE]).await
}

async fn verify_damaged(session: &DemoSession<'_>) -> Result<(), Failure> {
    session.say_heading("4. Change one byte of a copy, and check that.");
    session.show(&format!("cp {ARCHIVE} {DAMAGED}"));
    let copied = fs::copy(session.folder.join(ARCHIVE), session.folder.join(DAMAGED));
    copied.map_err(|error| Failure::io(DAMAGED, &error))?;
    let offset = offset_in_entry(session).await?;
    change_byte(session, offset).map_err(|error| Failure::io(DAMAGED, &error))?;
    let args = ["verify", DAMAGED];
    session.kindpack_fails(&args, ExitCode::Damaged).await?;
    session.say("The exit code is 4, so a script notices.");
    Ok(())
}

/// A byte in the middle of an entry's data.
async fn offset_in_entry(session: &DemoSession<'_>) -> Result<u64, Failure> {
    let location = Location::Local(session.folder.join(ARCHIVE));
    let ArchiveLocation {
        store,
        object,
        title,
    } = find_at(session.context, &location, None).await?;
    let archive = Archive::open(store, object, title).await?;
    let entries = archive.container().entries();
    let mut outputs = entries.iter().filter(|it| it.name.ends_with("/output-0"));
    let entry = outputs.find(|it| it.name.contains(DAMAGED_ENTRY));
    let entry = entry.ok_or_else(|| Failure::internal("the demo's backup lacks a kind"))?;
    Ok(entry.sealed_data_offset() + entry.compressed_len / 2)
}

/// Shows the command that changes a byte of the copy, and does what it does.
fn change_byte(session: &DemoSession<'_>, offset: u64) -> io::Result<()> {
    let path = session.folder.join(DAMAGED);
    let letter = other_letter(&path, offset)?;
    session.show(&format!(
        "printf {letter} | dd of={DAMAGED} bs=1 seek={offset} conv=notrunc 2> /dev/null"
    ));
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    write!(file, "{letter}")
}

/// A letter that is not at this place of a file.
fn other_letter(path: &Path, offset: u64) -> io::Result<char> {
    let bytes = fs::read(path)?;
    let at = usize::try_from(offset).ok();
    let byte = at.and_then(|at| bytes.get(at));
    Ok(if byte == Some(&b'X') { 'Y' } else { 'X' })
}

async fn plan_and_restore(session: &DemoSession<'_>) -> Result<(), Failure> {
    session
        .say_heading("5. Plan the restore of one shop: the order, and the reason for each step.");
    let plan = ["plan", ARCHIVE, "--target", "ndjson:copy"];
    let choices = ["--only", "berlin/*", "-o", "plan.json"];
    session.kindpack(&[plan, choices].concat()).await?;
    session.say_heading("6. Run that plan: here into JSON files, one for each kind.");
    session.kindpack(&["restore", "plan.json"]).await
}

async fn redact(session: &DemoSession<'_>) -> Result<(), Failure> {
    session.say_heading("7. Restore for a test environment, with personal data masked.");
    let customers = "berlin/Customer";
    session.kindpack_head(&["cat", ARCHIVE, customers]).await?;
    let plan = ["plan", ARCHIVE, "--target", "ndjson:masked"];
    let choices = ["--only", customers, "-o", "masked.json", "--quiet"];
    let rules = [
        "--redact",
        "Customer.name=mask",
        "--redact",
        "Customer.email=mask",
    ];
    let more_rules = ["--redact", "Customer.phone=mask"];
    let plan = [&plan[..], &rules, &more_rules, &choices].concat();
    session.kindpack(&plan).await?;
    let restore = ["restore", "masked.json", "--quiet"];
    session.kindpack(&restore).await?;
    session.head("masked/berlin/Customer.ndjson")
}

/// The last step, where one of Google's emulators is there. Says whether it was.
async fn restore_into_emulator(
    session: &DemoSession<'_>,
    wanted: Option<EmulatorProduct>,
) -> Result<bool, Failure> {
    if let Some(host) = running_emulator().filter(|_| wanted.is_none()) {
        if !emulator::is_listening(&host).await {
            let reason = format!("nothing answers at {host} (DATASTORE_EMULATOR_HOST)");
            say_left_out(session, &reason);
            return Ok(false);
        }
        restore_into_running(session, &host).await?;
        return Ok(true);
    }
    match emulator::find(wanted) {
        Ok(found) => rehearse(session, found.product(), wanted)
            .await
            .map(|()| true),
        Err(error @ EmulatorError::NotUsable { .. }) => Err(error.into()),
        Err(error) => {
            say_left_out(session, &error.to_string());
            Ok(false)
        }
    }
}

fn say_left_out(session: &DemoSession<'_>, reason: &str) {
    session.say_heading("8. Left out: a restore into Google's Datastore emulator.");
    session.say(&format!("Reason: {reason}."));
}

/// The emulator that the environment names.
fn running_emulator() -> Option<String> {
    let host = std::env::var("DATASTORE_EMULATOR_HOST").ok()?;
    host_and_port(&host)
}

async fn restore_into_running(session: &DemoSession<'_>, host: &str) -> Result<(), Failure> {
    session.say_heading("8. Restore into the running emulator, and compare every entity.");
    let target = format!("emulator:{}@{host}", project(session));
    let plan = ["plan", ARCHIVE, "--target", &target];
    let choices = ["-o", "emulator.json", "--quiet"];
    session.kindpack(&[&plan[..], &choices].concat()).await?;
    let restore = ["restore", "emulator.json", "--check", "entities"];
    session.kindpack(&restore).await
}

async fn rehearse(
    session: &DemoSession<'_>,
    found: EmulatorProduct,
    wanted: Option<EmulatorProduct>,
) -> Result<(), Failure> {
    session.say_heading(&format!(
        "8. Restore into a private {found}, and compare every entity."
    ));
    let option = wanted.map(|wanted| ["--emulator", wanted.as_str()]);
    let rehearse = ["rehearse", ARCHIVE];
    let args = [&rehearse[..], option.as_ref().map_or(&[], |it| &it[..])];
    session.kindpack(&args.concat()).await
}

/// A project of the demo's own.
fn project(session: &DemoSession<'_>) -> String {
    let name = session.folder.file_name();
    let name = name.map(|name| name.to_string_lossy().to_lowercase());
    name.unwrap_or_default().replace('.', "-")
}

fn say_end(session: &DemoSession<'_>) {
    let ui = &session.context.ui;
    let folder = shell_quote(&session.folder.display().to_string());
    ui.say_apart("All of it is in the folder named above. When you are done, delete that:");
    ui.info(format!("  rm -r {folder}"));
    ui.info("Next: kindpack pack YOUR_EXPORTS backup.zip   (kindpack --help shows the rest)");
}
