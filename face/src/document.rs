//! YAML that a person wrote: unknown fields refused, with line, column and the nearest valid name.
//! Pure: text in, value or failure out.

use serde::de::DeserializeOwned;

use crate::{Exit, Failure};

/// Bytes of one YAML file. A buildspec has a dozen lines; a large trust policy a few hundred.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Nodes of one YAML file: low enough that an alias bomb ends at once.
const NODES_MAX: usize = 20_000;
/// Nesting of one YAML file.
const DEPTH_MAX: usize = 32;
/// Characters of a name, and of the parser's words, that a message repeats.
const QUOTE_LENGTH_MAX: usize = 200;
/// A misspelt name is taken for a known one up to this many edits away.
const EDITS_MAX: usize = 3;

/// Parses one document. `file` is named in the failure, which ends the process with [`Exit::Usage`].
///
/// Structs should carry `deny_unknown_fields`; use externally tagged enums, because errors inside
/// internally tagged ones lose their position.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Failure> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(Failure::new(Exit::Usage, format!("{file}: {} bytes, more than {DOCUMENT_BYTES_MAX}", text.len())));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            max_depth: DEPTH_MAX,
            max_aliases: 100,
            max_total_scalar_bytes: DOCUMENT_BYTES_MAX,
        },
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| failure(file, &error))
}

/// A failure at a place in a person's file, for checks that come after parsing.
pub fn wrong(file: &str, line: u64, column: u64, message: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{file}:{line}:{column}: {message}"))
}

fn failure(file: &str, error: &serde_saphyr::Error) -> Failure {
    use serde_saphyr::Error as E;
    let error = error.without_snippet();
    let place = match error.location() {
        Some(at) if at.line() > 0 => format!("{file}:{}:{}", at.line(), at.column()),
        _ => file.to_owned(),
    };
    match error {
        E::SerdeUnknownField { field, expected, .. } => unknown(&place, "field", field, expected),
        E::SerdeUnknownVariant { variant, expected, .. } => unknown(&place, "value", variant, expected),
        other => {
            let text = other.to_string();
            // The parser writes the position a second time, in words of its own.
            let text = text.split(" at line ").next().unwrap_or(&text).trim_end_matches([':', ' ']);
            Failure::new(Exit::Usage, format!("{place}: {}", quote(text)))
        }
    }
}

/// Text out of the file, on one line and not endless: the file may be a stranger's.
fn quote(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(QUOTE_LENGTH_MAX) {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    if text.chars().nth(QUOTE_LENGTH_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn unknown(place: &str, kind: &str, name: &str, expected: &[&str]) -> Failure {
    let failure = Failure::new(Exit::Usage, format!("{place}: unknown {kind} `{}`", quote(name)));
    match nearest(name, expected) {
        Some(close) => failure.next(format!("did you mean `{close}`?")),
        None if expected.is_empty() => failure,
        None => failure.next(format!("valid here: {}", expected.join(", "))),
    }
}

/// The valid name that is fewest edits away, if it is near enough to be what was meant.
pub fn nearest<'a>(name: &str, valid: &[&'a str]) -> Option<&'a str> {
    // The distance takes a table of name by candidate; and a name that long is nobody's slip.
    if name.len() > QUOTE_LENGTH_MAX {
        return None;
    }
    valid
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .filter(|(edits, candidate)| *edits <= EDITS_MAX && *edits < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only its parsing is looked at")]
        image: Inner,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only its parsing is looked at")]
        entrypoint: Vec<String>,
    }

    #[test]
    fn misspelt_field_names_file_line_column_and_nearest() {
        let failure = parse::<Outer>("b.yaml", "image:\n  entrypiont: [/x]\n").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.to_string(), "b.yaml:2:3: unknown field `entrypiont`\n  next: did you mean `entrypoint`?");
    }

    #[test]
    fn duplicate_key_is_refused_with_its_place() {
        let failure = parse::<Outer>("b.yaml", "image:\n  entrypoint: [/x]\n  entrypoint: [/y]\n").unwrap_err();
        assert!(failure.to_string().starts_with("b.yaml:3:3: "), "{failure}");
    }

    #[test]
    fn alias_bomb_is_refused() {
        let mut text = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
        for (at, next) in ('a'..'i').zip('b'..) {
            let nine = vec![format!("*{at}"); 9].join(",");
            text = format!("{text}{next}: &{next} [{nine}]\n");
        }
        assert!(parse::<std::collections::BTreeMap<String, serde_json::Value>>("bomb.yaml", &text).is_err());
    }

    #[test]
    fn names_out_of_the_file_are_shown_on_one_line_and_not_endless() {
        let text = format!("? \"image\\n  next: run this\\e[2J{}\"\n: 1\n", "x".repeat(100_000));
        let failure = parse::<Outer>("b.yaml", &text).unwrap_err().to_string();
        assert!(failure.contains("unknown field `image\\n  next: run this\\u{1b}[2Jxxx"), "{failure}");
        assert!(failure.len() < 400, "{} bytes", failure.len());
    }

    #[test]
    fn far_names_are_not_guessed() {
        let long = "a".repeat(QUOTE_LENGTH_MAX + 1);
        assert_eq!(nearest(&long, &[&"a".repeat(QUOTE_LENGTH_MAX)]), None, "not even looked at");
        assert_eq!(nearest("zzzzzz", &["image", "build"]), None);
        assert_eq!(nearest("imagee", &["image", "build"]), Some("image"));
    }
}
