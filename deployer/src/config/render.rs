//! Layers over layers, templates with facts, and the digest over the result. Pure.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use nebh_oci::digest::Digest;
use nebh_oci::json;
use nebh_trust::release::{ConfigFile, ConfigLayer, RelativePath};
use serde::Serialize;

/// Ending of a template's name; the rendered file has the name without it.
const TEMPLATE_ENDING: &str = ".j2";
/// Steps of one template's evaluation: far more than any config needs, an end for a loop that never ends.
const FUEL_MAX: u64 = 200_000;
/// Bytes of the whole rendered tree.
const RENDERED_BYTES_MAX: usize = 16 << 20;

/// What a template can name. Part of the face: names are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Name of the node.
    pub node: String,
    /// Groups of the node.
    pub groups: Vec<String>,
    /// Name of the application.
    pub app: String,
    /// Version of the release.
    pub version: String,
    /// Commit of the release.
    pub commit: String,
    /// Ports that the program listens on, inside the container.
    pub ports: Vec<u16>,
    /// Dataset → where it is mounted.
    pub data: BTreeMap<String, String>,
}

impl Facts {
    fn value(&self) -> Value {
        context! {
            node => self.node.clone(),
            groups => self.groups.clone(),
            app => self.app.clone(),
            version => self.version.clone(),
            commit => self.commit.clone(),
            ports => self.ports.clone(),
            data => self.data.clone(),
        }
    }
}

/// One file as the program will see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedFile {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Whether it may be run.
    pub executable: bool,
    /// The layer that it came from.
    pub layer: String,
}

/// The whole tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    files: BTreeMap<RelativePath, RenderedFile>,
    digest: Digest,
}

impl Rendered {
    /// Every file, by path.
    pub fn files(&self) -> &BTreeMap<RelativePath, RenderedFile> {
        &self.files
    }

    /// Identity of the tree.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// Why config cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A template is wrong, or names something that is not there.
    #[error("config template `{path}` of layer `{layer}`{place}: {why}")]
    Template {
        /// The layer.
        layer: String,
        /// The file.
        path: String,
        /// `, line 3`, if known.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// Two files of one layer would have the same name once rendered.
    #[error("config layer `{layer}` has both `{path}` and `{path}{TEMPLATE_ENDING}`")]
    Twice {
        /// The layer.
        layer: String,
        /// The name.
        path: String,
    },
    /// A file would lie below another file.
    #[error("config file `{path}` lies below `{above}`, which is a file too")]
    BelowFile {
        /// The file.
        path: String,
        /// The other.
        above: String,
    },
    /// Too much.
    #[error("the rendered config is larger than {RENDERED_BYTES_MAX} bytes; what is larger is data")]
    TooLarge,
    /// The digest cannot be made.
    #[error("the rendered config has no canonical form: {0}")]
    Canonical(String),
}

/// Renders layers, the weakest first.
pub fn render(layers: &[ConfigLayer], facts: &Facts) -> Result<Rendered, RenderError> {
    let mut chosen: BTreeMap<RelativePath, (&ConfigLayer, &ConfigFile)> = BTreeMap::new();
    for layer in layers {
        let mut here: BTreeMap<RelativePath, (&ConfigLayer, &ConfigFile)> = BTreeMap::new();
        for file in &layer.files {
            let target = target(&file.path);
            if here.insert(target.clone(), (layer, file)).is_some() {
                return Err(RenderError::Twice { layer: layer.name.clone(), path: target.to_string() });
            }
        }
        chosen.append(&mut here);
    }
    let environment = environment();
    let mut files = BTreeMap::new();
    let mut bytes_total = 0;
    for (path, (layer, file)) in chosen {
        let bytes = if file.path.as_str().ends_with(TEMPLATE_ENDING) {
            evaluate(&environment, layer, file, facts)?
        } else {
            file.bytes.clone()
        };
        bytes_total += bytes.len();
        if bytes_total > RENDERED_BYTES_MAX {
            return Err(RenderError::TooLarge);
        }
        files.insert(path, RenderedFile { bytes, executable: file.executable, layer: layer.name.clone() });
    }
    no_file_is_a_folder(&files)?;
    let digest = digest(&files)?;
    Ok(Rendered { files, digest })
}

fn target(path: &RelativePath) -> RelativePath {
    let plain = path.as_str().strip_suffix(TEMPLATE_ENDING).and_then(|text| text.parse().ok());
    plain.unwrap_or_else(|| path.clone())
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL_MAX));
    let mut syntax = SyntaxConfig::builder();
    syntax.keep_trailing_newline(true);
    if let Ok(syntax) = syntax.build() {
        environment.set_syntax(syntax);
    }
    // Config is not HTML, whatever its name ends in.
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment
}

fn evaluate(
    environment: &Environment<'_>,
    layer: &ConfigLayer,
    file: &ConfigFile,
    facts: &Facts,
) -> Result<Vec<u8>, RenderError> {
    let wrong = |place: String, why: String| RenderError::Template {
        layer: layer.name.clone(),
        path: file.path.to_string(),
        place,
        why,
    };
    let text = str::from_utf8(&file.bytes).map_err(|_| wrong(String::new(), "it is not UTF-8 text".to_owned()))?;
    match environment.render_named_str(file.path.as_str(), text, facts.value()) {
        Ok(text) => Ok(text.into_bytes()),
        Err(error) => {
            let place = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
            let name = error.range().and_then(|range| text.get(range)).filter(|name| !name.is_empty());
            let why = match (error.detail(), name) {
                (Some(detail), _) => format!("{}: {detail}", error.kind()),
                (None, Some(name)) => format!("{}: `{name}`", error.kind()),
                (None, None) => error.kind().to_string(),
            };
            Err(wrong(place, why))
        }
    }
}

fn no_file_is_a_folder(files: &BTreeMap<RelativePath, RenderedFile>) -> Result<(), RenderError> {
    for path in files.keys() {
        let text = path.as_str();
        for (at, _) in text.match_indices('/') {
            if text[..at].parse::<RelativePath>().is_ok_and(|above| files.contains_key(&above)) {
                return Err(RenderError::BelowFile { path: text.to_owned(), above: text[..at].to_owned() });
            }
        }
    }
    Ok(())
}

fn digest(files: &BTreeMap<RelativePath, RenderedFile>) -> Result<Digest, RenderError> {
    #[derive(Serialize)]
    struct Line<'a> {
        path: &'a str,
        digest: Digest,
        executable: bool,
    }
    #[derive(Serialize)]
    struct Tree<'a> {
        version: u32,
        files: Vec<Line<'a>>,
    }
    let files = files
        .iter()
        .map(|(path, file)| Line {
            path: path.as_str(),
            digest: Digest::sha256(&file.bytes),
            executable: file.executable,
        })
        .collect();
    let bytes =
        json::canonical(&Tree { version: 1, files }).map_err(|error| RenderError::Canonical(error.to_string()))?;
    Ok(Digest::sha256(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            node: "n1".to_owned(),
            groups: vec!["front".to_owned()],
            app: "shop/api".to_owned(),
            version: "1.0.0".to_owned(),
            commit: "0".repeat(40),
            ports: vec![8080],
            data: BTreeMap::from([("ledger".to_owned(), "/var/lib/shop".to_owned())]),
        }
    }

    fn layer(name: &str, files: &[(&str, &str)]) -> ConfigLayer {
        let file = |(path, text): &(&str, &str)| ConfigFile {
            path: path.parse().unwrap(),
            bytes: text.as_bytes().to_vec(),
            executable: false,
        };
        ConfigLayer { name: name.to_owned(), origin: "test".to_owned(), files: files.iter().map(file).collect() }
    }

    fn text(rendered: &Rendered, path: &str) -> String {
        String::from_utf8(rendered.files()[&path.parse::<RelativePath>().unwrap()].bytes.clone()).unwrap()
    }

    #[test]
    fn later_layers_win_file_by_file_also_plain_over_template() {
        let layers = [
            layer("defaults", &[("app.toml.j2", "node = \"{{ node }}\"\n"), ("keep", "kept")]),
            layer("n1", &[("app.toml", "fixed\n")]),
        ];
        let rendered = render(&layers, &facts()).unwrap();
        assert_eq!(text(&rendered, "app.toml"), "fixed\n");
        assert_eq!(text(&rendered, "keep"), "kept");
        assert_eq!(rendered.files().len(), 2);
    }

    #[test]
    fn templates_see_the_facts_and_keep_their_last_newline() {
        let template =
            "{{ app }} {{ version }} on {{ node }} of {{ groups | join(',') }}: {{ data.ledger }} <{{ ports[0] }}>\n";
        let rendered = render(&[layer("defaults", &[("a.html.j2", template)])], &facts()).unwrap();
        assert_eq!(text(&rendered, "a.html"), "shop/api 1.0.0 on n1 of front: /var/lib/shop <8080>\n");
    }

    #[test]
    fn undefined_name_is_an_error_with_file_line_and_name() {
        let error = render(&[layer("defaults", &[("a.j2", "x\n{{ nodde }}\n")])], &facts()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "config template `a.j2` of layer `defaults`, line 2: undefined value: `nodde` is undefined"
        );
    }

    #[test]
    fn endless_template_ends() {
        let text = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        let error = render(&[layer("defaults", &[("a.j2", text)])], &facts()).unwrap_err().to_string();
        assert!(error.contains("fuel"), "{error}");
    }

    #[test]
    fn names_that_cannot_stand_together_are_refused() {
        let twice = render(&[layer("n1", &[("a", ""), ("a.j2", "")])], &facts()).unwrap_err();
        assert_eq!(twice.to_string(), "config layer `n1` has both `a` and `a.j2`");
        let below = render(&[layer("d", &[("a", "")]), layer("n1", &[("a/b", "")])], &facts()).unwrap_err();
        assert_eq!(below.to_string(), "config file `a/b` lies below `a`, which is a file too");
    }

    #[test]
    fn digest_is_of_what_the_program_sees() {
        let plain = render(&[layer("x", &[("a", "n1")])], &facts()).unwrap();
        let templated = render(&[layer("y", &[("a.j2", "{{ node }}")])], &facts()).unwrap();
        assert_eq!(plain.digest(), templated.digest());
        let other = render(&[layer("x", &[("a", "n2")])], &facts()).unwrap();
        assert_ne!(plain.digest(), other.digest());
        assert_eq!(
            render(&[], &facts()).unwrap().digest().to_string(),
            "sha256:e5eccfdf0ce59ef36eb6f436f75e124e7979c91641945c21fbccdf585f335c56",
            "the form is versioned"
        );
    }
}
