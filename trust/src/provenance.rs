//! SLSA provenance v1, as the builder writes it and as rebuild and policy read it. Pure.
//!
//! The external parameters are complete: what they and the source do not say did not influence the build. Under our
//! build type an unknown external parameter is therefore an error, not something to skip.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Names how to read [`BuildDefinition`]. A change of meaning is a new URI.
pub const BUILD_TYPE: &str = "https://nebh.invalid/nebh-x/build/v1";
/// Steps whose behaviour the builder knows. Anything else is the project's own program.
pub const TYPED_STEPS: [&str; 6] = ["rust", "go", "node", "python", "c", "files"];

/// Why a predicate is no provenance of ours.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum ProvenanceError {
    #[error("its build type is `{0}`, not `{BUILD_TYPE}`")]
    BuildType(String),
    #[error("the provenance cannot be read: {0}")]
    Shape(String),
}

/// The predicate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// What was asked for, and all that it resolved to.
    pub build_definition: BuildDefinition,
    /// What happened in one execution.
    pub run_details: RunDetails,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildDefinition {
    /// [`BUILD_TYPE`].
    pub build_type: String,
    /// Under the control of whoever asked.
    pub external_parameters: ExternalParameters,
    /// Under the control of the builder.
    #[serde(default)]
    pub internal_parameters: InternalParameters,
    /// Every input by digest: the commit, each package, each crate.
    #[serde(default)]
    pub resolved_dependencies: Vec<ResourceDescriptor>,
}

/// Under the control of whoever asked for the build. Complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalParameters {
    /// Where the commit was read.
    pub source: Source,
    /// Path of the buildspec in the source.
    pub buildspec: String,
    /// `os/architecture` of the image.
    pub platform: String,
    /// The kinds of its steps, in order.
    pub steps: Vec<String>,
    /// Whether packages ran their own scripts in the sandbox.
    #[serde(default)]
    pub configure: bool,
}

impl ExternalParameters {
    /// The first step that is not of a kind the builder knows.
    pub fn custom_step(&self) -> Option<&str> {
        self.steps.iter().map(String::as_str).find(|step| !TYPED_STEPS.contains(step))
    }
}

/// A commit of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Address of the repository.
    pub uri: String,
    /// The commit that was built.
    pub commit: String,
    /// The branch or tag that was asked for, if one was.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Folder of the project in the repository; empty for its root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub directory: String,
}

/// Under the control of the builder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InternalParameters {
    /// Digest of the build plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Number of the assembly contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assembly: Option<u32>,
    /// Compressor that the layer digests depend on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compressor: Option<String>,
}

/// One input, or one by-product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceDescriptor {
    /// Where it is from, in a form that survives mirrors: `git+…`, `pkg:deb/…`, `pkg:cargo/…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Algorithm to digits: `sha256`, `gitCommit`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
    /// Further facts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, Value>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDetails {
    /// Who built.
    pub builder: Builder,
    /// When, and which run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RunMetadata>,
    /// What else came out, such as the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub byproducts: Vec<ResourceDescriptor>,
}

/// The build platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builder {
    /// Its URI.
    pub id: String,
    /// Versions of its parts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub version: BTreeMap<String, String>,
}

/// One run. Wall-clock times belong here and never into the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunMetadata {
    /// Which run.
    #[serde(rename = "invocationId", alias = "invocationID", skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<String>,
    /// When it began.
    #[serde(rename = "startedOn", with = "time", skip_serializing_if = "Option::is_none")]
    pub started_on: Option<Timestamp>,
    /// When it ended.
    #[serde(rename = "finishedOn", with = "time", skip_serializing_if = "Option::is_none")]
    pub finished_on: Option<Timestamp>,
}

impl Provenance {
    /// Reads a predicate. Another build type is told apart from a predicate that cannot be read.
    pub fn from_predicate(predicate: &Value) -> Result<Self, ProvenanceError> {
        if let Some(other) = predicate.pointer("/buildDefinition/buildType").and_then(Value::as_str)
            && other != BUILD_TYPE
        {
            return Err(ProvenanceError::BuildType(crate::rejection::quote(other)));
        }
        Self::deserialize(predicate)
            .map_err(|error| ProvenanceError::Shape(crate::rejection::quote(&error.to_string())))
    }

    /// The predicate to attest.
    pub fn to_predicate(&self) -> Result<Value, ProvenanceError> {
        serde_json::to_value(self).map_err(|error| ProvenanceError::Shape(error.to_string()))
    }
}

/// RFC 3339, to the second.
mod time {
    use super::{Deserialize, Deserializer, Serializer, Timestamp};

    #[expect(clippy::ref_option, reason = "serde's `with` hands over a reference to the field")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
    }
}
