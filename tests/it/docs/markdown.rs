//! A document as its reader sees it: headings, links, code.

use std::fs;
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::root;

/// A Markdown file and what is in it.
#[derive(Default)]
pub struct Document {
    /// Its path in the repository.
    pub name: String,
    pub text: String,
    pub headings: Vec<String>,
    pub links: Vec<String>,
    /// What stands between backticks in a line.
    pub code: Vec<String>,
    pub blocks: Vec<Block>,
}

/// A block of code.
#[derive(Clone)]
pub struct Block {
    pub language: String,
    pub text: String,
    /// Where [`Block::text`] is in the document.
    pub range: Range<usize>,
    /// The comments directly before it, `<!-- key: value -->`.
    pub notes: Vec<(String, String)>,
}

impl Block {
    /// The words of all notes with this key.
    pub fn notes(&self, key: &str) -> Vec<&str> {
        let notes = self.notes.iter().filter(|(name, _)| name == key);
        notes.map(|(_, value)| value.as_str()).collect()
    }

    /// Whether what it needs names this.
    pub fn needs(&self, what: &str) -> bool {
        let mut needs = self
            .notes("needs")
            .into_iter()
            .flat_map(str::split_whitespace);
        needs.any(|need| need == what)
    }
}

/// Reads the events of the parser.
#[derive(Default)]
struct Reader {
    document: Document,
    notes: Vec<(String, String)>,
    block: Option<Block>,
    heading: Option<String>,
}

impl Document {
    /// A document of the repository.
    pub fn read(name: &str) -> Self {
        let text = fs::read_to_string(root().join(name)).unwrap();
        let mut reader = Reader::default();
        let options = Options::ENABLE_TABLES;
        for (event, range) in Parser::new_ext(&text, options).into_offset_iter() {
            reader.event(event, range);
        }
        Document {
            name: name.to_owned(),
            text,
            ..reader.document
        }
    }

    /// The anchors of its headings, as GitHub makes them.
    pub fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for heading in &self.headings {
            let base = anchor(heading);
            let same = anchors.iter().filter(|known| **known == base).count();
            anchors.push(if same == 0 {
                base
            } else {
                format!("{base}-{same}")
            });
        }
        anchors
    }
}

fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let text = heading.to_lowercase();
    text.chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

/// `key` and `value` of `<!-- key: value -->`.
fn note(html: &str) -> Option<(String, String)> {
    let inner = html.trim().strip_prefix("<!--")?.strip_suffix("-->")?;
    let (key, value) = inner.split_once(':')?;
    Some((key.trim().to_owned(), value.trim().to_owned()))
}

impl Reader {
    fn event(&mut self, event: Event<'_>, range: Range<usize>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.plain_text(&text, range),
            Event::Code(code) => self.code(&code),
            Event::Html(html) => self.notes.extend(note(&html)),
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::CodeBlock(kind) => self.block = Some(self.begin_block(kind)),
            Tag::HtmlBlock => {}
            Tag::Heading { .. } => self.heading = Some(String::new()),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.document.links.push(dest_url.to_string());
            }
            _ => self.notes.clear(),
        }
    }

    fn begin_block(&mut self, kind: &CodeBlockKind<'_>) -> Block {
        let language = match kind {
            CodeBlockKind::Fenced(language) => language.to_string(),
            CodeBlockKind::Indented => String::new(),
        };
        Block {
            language,
            text: String::new(),
            range: 0..0,
            notes: std::mem::take(&mut self.notes),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::CodeBlock => self.document.blocks.extend(self.block.take()),
            TagEnd::Heading(_) => self.document.headings.extend(self.heading.take()),
            _ => {}
        }
    }

    fn plain_text(&mut self, text: &str, range: Range<usize>) {
        if let Some(block) = &mut self.block {
            if block.text.is_empty() {
                block.range = range.clone();
            }
            block.range.end = range.end;
            block.text.push_str(text);
        } else if let Some(heading) = &mut self.heading {
            heading.push_str(text);
        }
    }

    fn code(&mut self, code: &str) {
        if let Some(heading) = &mut self.heading {
            heading.push_str(code);
        }
        self.document.code.push(code.to_owned());
    }
}

#[test]
fn anchors_are_made_of_headings() {
    let document = Document {
        headings: vec![
            "What's `--new`?".to_owned(),
            "A b".to_owned(),
            "A b".to_owned(),
        ],
        ..Document::default()
    };
    assert_eq!(document.anchors(), ["whats---new", "a-b", "a-b-1"]);
}
