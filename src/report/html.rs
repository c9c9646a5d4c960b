//! The page as HTML: one file that loads nothing and needs no script.

use askama::Template;

use super::ReportPage;

/// How each page begins, without white space: by that a page is known that may be replaced.
pub const PAGE_HEAD: &str = r#"<!DOCTYPEhtml><htmllang="en"><head><metacharset="utf-8"/><metaname="generator"content="kindpack"#;

/// The version that has made the page.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The template escapes all that it inserts.
#[derive(Template)]
#[template(path = "report/page.html")]
struct PageTemplate<'a> {
    page: &'a ReportPage,
    version: &'static str,
}

/// Writes the page.
pub fn to_html(page: &ReportPage) -> String {
    let version = VERSION;
    let template = PageTemplate { page, version };
    let html = template.render();
    let html =
        html.expect("the template inserts texts and numbers only, and a String takes them all");
    html + "\n"
}
