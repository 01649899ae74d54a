//! Builds and their events as lines for a person. Pure.

use serde_json::Value;

/// One build.
pub(super) fn build(build: &Value) -> String {
    let text = |name: &str| build[name].as_str().unwrap_or("").to_owned();
    let commit = text("commit");
    let commit = commit.get(..12).unwrap_or(&commit);
    let reference = text("ref");
    let reference = reference.trim_start_matches("refs/heads/").trim_start_matches("refs/tags/");
    let end = match (build["failure"].as_str(), build["outcome"]["reference"].as_str()) {
        (Some(failure), _) => failure.lines().next().unwrap_or("").to_owned(),
        (None, Some(reference)) => reference.to_owned(),
        (None, None) => String::new(),
    };
    format!("{}  {:<7}  {}  {reference} {commit}  {end}", text("id"), text("state"), text("project"))
        .trim_end()
        .to_owned()
}

/// One event: a step's line as it came, a note as it was said, everything else by its fields. None for what only moves a
/// progress bar.
pub(super) fn event(event: &Value) -> Option<String> {
    let field = |name: &str| event[name].as_str().unwrap_or("");
    match field("kind") {
        "fetching" => None,
        "step-log" => Some(format!("{} | {}", field("step"), field("line"))),
        "note" => Some(field("text").to_owned()),
        kind => {
            let fields = event.as_object().into_iter().flatten().filter(|(name, _)| *name != "kind");
            let fields: Vec<String> = fields
                .map(|(name, value)| match value {
                    Value::String(text) => format!("{name} {text}"),
                    other => format!("{name} {other}"),
                })
                .collect();
            Some(format!("{kind:<12} {}", fields.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn builds_and_events_are_lines() {
        let one = json!({
            "id": "0190", "state": "done", "project": "shop/api", "ref": "refs/heads/main", "failure": null,
            "commit": "0123456789abcdef", "outcome": { "reference": "r.example/shop/api@sha256:00" },
        });
        assert_eq!(build(&one), "0190  done     shop/api  main 0123456789ab  r.example/shop/api@sha256:00");
        let line = |value: Value| event(&value);
        let compiling = json!({ "kind": "step-log", "step": "rust", "line": "Compiling x" });
        assert_eq!(line(compiling).as_deref(), Some("rust | Compiling x"));
        let fetched = json!({ "kind": "fetched", "here": 1, "total": 2 });
        assert_eq!(line(fetched).as_deref(), Some("fetched      here 1, total 2"));
        assert_eq!(line(json!({ "kind": "fetching", "done": 1 })), None);
    }
}
