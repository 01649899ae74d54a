//! Names that the pages list have to be those of the code, all of them: read from the code, so that none is forgotten.

use nebh_deployer::machine::Record;

use super::{pages, root};
use crate::tidy::without_tests;

fn source(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every text in `"` of a file that begins so, outside of its tests and comments.
fn texts(file: &str, start: &str) -> Vec<String> {
    let text = source(file);
    let lines = without_tests(&text).lines().filter(|line| !line.trim_start().starts_with("//"));
    let found = lines.flat_map(|line| line.split('"').skip(1).step_by(2)).filter(|text| text.starts_with(start));
    found.map(str::to_owned).collect()
}

/// The names that a page does not have between back-ticks.
fn unnamed(page: &str, names: &[String]) -> Vec<String> {
    let pages = pages();
    let page = pages.iter().find(|known| known.name == page).unwrap_or_else(|| panic!("no page {page}"));
    let codes = page.codes();
    names.iter().filter(|name| !codes.iter().any(|code| code.text == **name)).cloned().collect()
}

#[test]
fn every_media_type_is_on_the_page_of_formats() {
    let types = texts("oci/src/media_type.rs", "application/");
    assert!(types.len() > 15, "the media types are read: {types:?}");
    assert_eq!(unnamed("docs/formats.md", &types), Vec::<String>::new());
}

#[test]
fn every_predicate_type_is_on_the_page_of_formats() {
    let types = texts("trust/src/statement.rs", "https://");
    let types: Vec<String> = types.into_iter().filter(|name| !name.ends_with("v0.1")).collect();
    assert!(types.len() >= 5, "{types:?}");
    assert_eq!(unnamed("docs/formats.md", &types), Vec::<String>::new());
}

#[test]
fn every_journal_record_is_on_the_page_of_formats_and_synced_ones_are_marked() {
    let text = source("docs/formats.md");
    let wrong: Vec<&str> = Record::ALL
        .iter()
        .filter(|record| {
            let name = format!("`{}`", record.name());
            let marked = text.contains(&format!("{name}‡"));
            !text.contains(&name) || marked != record.is_durable()
        })
        .map(|record| record.name())
        .collect();
    assert_eq!(wrong, Vec::<&str>::new());
}

#[test]
fn every_table_of_the_gateway_is_on_the_page_of_formats() {
    let schema = source("registry-gateway/migrations/sqlite/0001_first.sql");
    let tables = schema.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split(' ').next());
    let tables: Vec<String> = tables.map(str::to_owned).collect();
    assert!(tables.len() > 8, "{tables:?}");
    assert_eq!(unnamed("docs/formats.md", &tables), Vec::<String>::new());
}

#[test]
fn every_word_of_a_refusal_is_on_the_page_of_trust() {
    let text = source("trust/src/rejection.rs");
    let body = text.split("pub fn name(self)").nth(1).and_then(|rest| rest.split("fn sentence").next());
    let words: Vec<String> = body.unwrap_or_default().split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(words.len() >= 12, "{words:?}");
    assert_eq!(unnamed("docs/trust.md", &words), Vec::<String>::new());
}

#[test]
fn every_counter_of_the_gateway_is_on_its_page() {
    let counters = texts("registry-gateway/src/gateway.rs", "nebh_gateway_");
    assert!(counters.len() >= 8, "{counters:?}");
    assert_eq!(unnamed("docs/gateway.md", &counters), Vec::<String>::new());
}

#[test]
fn every_state_file_of_the_gateway_is_on_the_page_of_formats() {
    let page = source("docs/formats.md");
    let keys = source("registry-gateway/src/store/keys.rs");
    let names: Vec<&str> =
        without_tests(&keys).split(".join(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(names.len() >= 4, "{names:?}");
    let missing: Vec<&&str> = names.iter().filter(|name| !page.contains(&format!("<state>/{name}"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
