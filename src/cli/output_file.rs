//! Files that a command writes: one of another kind that is there already is not replaced.

use std::path::Path;

use super::failure::Failure;
use super::file_head::{PLAN_HEAD, read_head};
use super::open_archive::no_bucket;
use crate::report::PAGE_HEAD;
use crate::runtime::private_files::create_private_folders;
use crate::runtime::workers::Workers;
use crate::runtime::working_file::write_file;

/// How a report begins that is JSON, without white space.
const REPORT_HEAD: &str = r#"{"format":"kindpack-report/"#;

/// What a report holds at its beginning that is XML, without white space.
const JUNIT_HEAD: &str = r#"<testsuitesname="kindpack""#;

/// Refuses a file for a plan that holds anything but a plan.
pub async fn check_plan_output(path: &Path) -> Result<(), Failure> {
    check_output(path, "-o", "a plan", |head| head.starts_with(PLAN_HEAD)).await
}

/// Refuses a file for a report that holds anything but a report.
pub async fn check_report_output(path: &Path) -> Result<(), Failure> {
    let is_report = |head: &str| {
        head.starts_with(REPORT_HEAD) || head.starts_with(PAGE_HEAD) || head.contains(JUNIT_HEAD)
    };
    check_output(path, "--report", "a report", is_report).await
}

/// Refuses a file for a page that holds anything but a page.
pub async fn check_page_output(path: &Path) -> Result<(), Failure> {
    let is_page = |head: &str| head.starts_with(PAGE_HEAD);
    check_output(path, "-o", "a page of kindpack report", is_page).await
}

/// Writes a report, and the folder that it is in. One that is there is replaced.
pub fn write_report(path: &Path, option: &str, text: &str) -> Result<(), Failure> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder
        .map_or(Ok(()), create_private_folders)
        .and_then(|()| write_file(path, text.as_bytes()))
        .map_err(|error| Failure::io(format!("{option} {}", path.display()), &error))
}

async fn check_output(
    path: &Path,
    option: &str,
    what: &str,
    is_own: fn(&str) -> bool,
) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Err(
            Failure::usage(format!("{option} - would be a file named -"))
                .hint(format!("name a file for {option}, such as ./-")),
        );
    }
    let shown = no_bucket(path)?.display();
    if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(
            Failure::usage(format!("{option}: {shown} is a folder, not a file"))
                .hint(format!("name a file for {option}")),
        );
    }
    let owned = path.to_owned();
    let head = Workers::run_blocking(move || read_head(&owned)).await?;
    let head = head.map_err(|error| Failure::io(&shown, &error))?;
    if head.is_empty() || is_own(&head) {
        return Ok(());
    }
    Err(
        Failure::refused(format!("{shown} already exists and is not {what}"))
            .hint(format!("choose another name for {option}")),
    )
}
