//! The fenced blocks of a page, and what is in them.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The first line of a block that holds values of the Helm chart instead of manifests.
const VALUES: &str = "# values.yaml";

/// The languages of blocks. Another, such as `yml`, would be one that no test looks at.
const LANGUAGES: [&str; 6] = ["console", "json", "mermaid", "sh", "text", "yaml"];

/// One fenced block of a page, or a whole file of YAML.
pub(super) struct Block {
    /// Below the root.
    pub(super) file: String,
    /// Where it begins, counted from 1.
    line: usize,
    pub(super) language: String,
    /// Without its indentation.
    pub(super) text: String,
    /// The heading of the section (`##`) that it is in.
    pub(super) section: String,
    /// The paragraph before it.
    pub(super) lead: String,
}

/// What a block of YAML holds.
pub(super) enum Content {
    Values,
    Manifests(Vec<Value>),
}

impl Block {
    /// File and line, as compilers name them.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// What the YAML is, or why no test can look at it.
    pub(super) fn content(&self) -> Result<Content, String> {
        if self.text.lines().next() == Some(VALUES) {
            return Ok(Content::Values);
        }
        let documents = self.text.split("\n---\n").map(|document| {
            let object: Value = serde_saphyr::from_str(document).map_err(|error| format!("not YAML: {error}"))?;
            let says = |field: &str| object[field].is_string();
            (says("apiVersion") && says("kind")).then_some(object).ok_or_else(|| {
                format!("neither a manifest, with apiVersion and kind, nor values of the chart, with `{VALUES}` as the first line")
            })
        });
        documents.collect::<Result<_, _>>().map(Content::Manifests)
    }

    /// The manifests of a block of YAML that has some.
    pub(super) fn manifests(&self) -> Vec<Value> {
        match (self.language.as_str(), self.content()) {
            ("yaml", Ok(Content::Manifests(objects))) => objects,
            _ => Vec::new(),
        }
    }
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The blocks of a page; a file of YAML is one block.
pub(super) fn read(file: &PathBuf) -> Vec<Block> {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let name = file.to_str().unwrap();
    if file.extension().is_some_and(|extension| extension == "yaml") {
        let [language, section, lead] = ["yaml", "", ""].map(str::to_owned);
        return vec![Block { file: name.to_owned(), line: 1, language, text, section, lead }];
    }
    parse(name, &text).unwrap()
}

/// The blocks of a page, or its first block that no test would look at.
pub(super) fn parse(file: &str, page: &str) -> Result<Vec<Block>, String> {
    let (mut blocks, mut section, mut lead) = (Vec::new(), String::new(), String::new());
    let mut lines = page.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let wrong = |what: &str| Err(format!("{file}:{number}: {what}"));
        let Some(language) = line.trim_start().strip_prefix("```") else {
            let text = line.trim();
            if text.contains("```") || text.starts_with("~~~") {
                return wrong("a block begins with ``` on a line of its own");
            }
            if let Some(heading) = line.strip_prefix("## ") {
                heading.clone_into(&mut section);
            }
            if text.is_empty() {
                // The paragraph goes on to be the lead of a block that follows the empty line.
                lead.push('\n');
            } else if lead.ends_with('\n') {
                text.clone_into(&mut lead);
            } else {
                lead = format!("{lead} {text}");
            }
            continue;
        };
        if !LANGUAGES.contains(&language) {
            return wrong(&format!("the language of a block is one of {LANGUAGES:?}"));
        }
        let indent = line.len() - line.trim_start().len();
        let mut text = String::new();
        loop {
            let Some((line, _)) = lines.next() else { return wrong("the block has no end") };
            if line.trim() == "```" {
                break;
            }
            let (before, rest) = line.split_at(indent.min(line.len()));
            if !before.trim().is_empty() {
                return wrong("the block is less indented than its first line");
            }
            text += rest;
            text.push('\n');
        }
        if language != "yaml" && text.lines().any(|line| line.starts_with("apiVersion:")) {
            return wrong("a manifest stands in a block of yaml, where it is tested");
        }
        blocks.push(Block {
            file: file.to_owned(),
            line: number,
            language: language.to_owned(),
            text,
            section: section.clone(),
            lead: std::mem::take(&mut lead).trim().to_owned(),
        });
    }
    Ok(blocks)
}

#[test]
fn no_block_of_a_page_escapes() {
    for (page, complaint) in [
        ("```yaml\na: 1\n```\n", None),
        ("a\n\n```yml\na: 1\n```\n", Some("page.md:3: the language")),
        ("```\na: 1\n```\n", Some("page.md:1: the language")),
        ("```yaml\na: 1\n", Some("page.md:1: the block has no end")),
        ("  ```yaml\na: 1\n  ```\n", Some("page.md:1: the block is less indented")),
        ("* ```yaml\n  a: 1\n  ```\n", Some("page.md:1: a block begins")),
        ("~~~yaml\na: 1\n~~~\n", Some("page.md:1: a block begins")),
        ("```sh\nkubectl apply -f - <<EOF\napiVersion: v1\nEOF\n```\n", Some("page.md:1: a manifest stands")),
    ] {
        let said = parse("page.md", page).err();
        let as_expected = match (&said, complaint) {
            (None, None) => true,
            (Some(said), Some(complaint)) => said.starts_with(complaint),
            _ => false,
        };
        assert!(as_expected, "{page}\n{said:?}");
    }
}
