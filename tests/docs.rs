//! The documentation is true: every command block of README and docs is run, every example of a file is read by the
//! parser that users meet, and every command and flag is named in docs and exists.
//!
//! What stands behind the three back-ticks says what happens to a block:
//!
//! ```text
//!   sh            run: all pages of `session::ORDER` in one shell, one folder, one go
//!   output        the lines that the block before it has to print, in this order; `…` stands for anything
//!   yaml KIND     read by the parser of that kind of file (`examples`)
//!   json KIND
//!   console WHY   commands that are not run here, and why; counted below
//!   text          drawings, layouts, lists: no commands
//! ```

mod commands;
mod examples;
mod facts;
mod markdown;
mod session;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use markdown::Page;

/// Command blocks that no test runs, page by page. Each has its reason behind the fence.
const NOT_RUN: &[(&str, usize)] = &[("README.md", 1)];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README and every page below docs/.
fn pages() -> Vec<Page> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("docs"))
        .expect("docs/")
        .map(|entry| entry.expect("a page").path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.push(root().join("README.md"));
    files.sort();
    let page = |file: &PathBuf| Page {
        name: file.strip_prefix(root()).expect("below the root").display().to_string(),
        text: std::fs::read_to_string(file).expect("a page"),
    };
    files.iter().map(page).collect()
}

#[test]
fn every_block_says_what_happens_to_it() {
    let mut wrong = Vec::new();
    for page in pages() {
        let mut before = String::new();
        for block in page.blocks() {
            let has_commands = block
                .text
                .lines()
                .any(|line| ["nebh ", "$ ", "hack/", "curl "].iter().any(|start| line.trim_start().starts_with(start)));
            let what = match block.language.as_str() {
                "sh" if block.text.contains(" && ") => Some("`&&` hides a failure from the test: two lines"),
                "output" if before != "sh" => Some("no `sh` block stands before it"),
                "text" if has_commands => Some("commands: mark it `sh`, or `console WHY`"),
                "console" if block.about.len() < 10 => Some("say why it is not run"),
                "yaml" | "json" if !examples::is_known(&block.about) => Some("say which kind of file it is"),
                "sh" | "output" | "text" | "console" | "yaml" | "json" => None,
                _ => Some("mark it: sh, output, yaml KIND, json KIND, console WHY, text"),
            };
            wrong.extend(what.map(|what| format!("{}: {what}", block.place())));
            before = block.language;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn command_blocks_that_are_not_run_are_counted() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for block in pages().iter().flat_map(Page::blocks).filter(|block| block.language == "console") {
        *seen.entry(block.page).or_default() += 1;
    }
    let wanted: BTreeMap<String, usize> = NOT_RUN.iter().map(|(page, count)| ((*page).to_owned(), *count)).collect();
    assert_eq!(seen, wanted, "blocks marked `console`: run them, or change NOT_RUN");
}

/// The name that a heading has in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        let folder = root().join(&page.name).parent().expect("a folder").to_owned();
        for (number, line) in page.prose() {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let (file, heading) = target.split_once('#').unwrap_or((target, ""));
                let file = if file.is_empty() { root().join(&page.name) } else { folder.join(file) };
                let leads = || {
                    let text = std::fs::read_to_string(&file).unwrap_or_default();
                    let mut headings = text.lines().filter(|line| line.starts_with('#'));
                    headings.any(|line| anchor(line.trim_start_matches('#').trim()) == heading)
                };
                if !target.contains("://") && (!file.exists() || !heading.is_empty() && !leads()) {
                    wrong.push(format!("{}:{number}: {target}", page.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_page_is_linked_from_the_readme() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let missing: Vec<String> = pages()
        .into_iter()
        .map(|page| page.name)
        .filter(|name| !readme.contains(&format!("]({name})")) && name != "README.md")
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
