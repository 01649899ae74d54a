//! Examples of files in the documentation, read by the parsers that users meet.

use std::path::Path;

use nebh_builder::service::settings::Settings as BuilderSettings;
use nebh_builder::spec::Buildspec;
use nebh_builder::upstream::UpstreamSettings;
use nebh_deployer::settings::Settings as NodeSettings;
use nebh_gateway::settings::Settings as GatewaySettings;
use nebh_oci::json::parse_strict;
use nebh_trust::channel::ChannelHead;
use nebh_trust::data::DataSnapshotManifest;
use nebh_trust::key::PrivateKey;
use nebh_trust::policy::TrustPolicy;
use nebh_trust::release::ReleaseSpec;

use super::pages;

/// Reads one kind of file, or says what is wrong with it.
type Parser = fn(&str) -> Result<(), String>;

/// Names of the kinds, as they stand behind the fence, and the parser of each.
const KINDS: &[(&str, Parser)] = &[
    ("buildspec.yaml", |text| Buildspec::parse("buildspec.yaml", text).map(drop).map_err(|error| error.to_string())),
    ("release.yaml", |text| ReleaseSpec::parse("release.yaml", text).map(drop).map_err(|error| error.to_string())),
    ("trust.yaml", policy),
    ("gateway.yaml", |text| {
        let state = Path::new("/var/lib/nebh/gateway");
        GatewaySettings::parse("gateway.yaml", text, Path::new("/etc/nebh"), state).map(drop).map_err(|e| e.to_string())
    }),
    ("builder.yaml", |text| {
        BuilderSettings::parse(Path::new("/etc/nebh/builder.yaml"), text).map(drop).map_err(|error| error.to_string())
    }),
    ("node.yaml", |text| {
        let state = Path::new("/var/lib/nebh/node");
        NodeSettings::parse("node.yaml", text, Path::new("/etc/nebh"), state).map(drop).map_err(|e| e.to_string())
    }),
    ("upstreams", |text| UpstreamSettings::parse("settings.yaml", text).map(drop).map_err(|error| error.to_string())),
    ("channel head", |text| parse_strict::<ChannelHead>(text.as_bytes()).map(drop).map_err(|error| error.to_string())),
    ("data snapshot", |text| {
        parse_strict::<DataSnapshotManifest>(text.as_bytes()).map(drop).map_err(|error| error.to_string())
    }),
];

/// True if blocks of this kind can be read.
pub(super) fn is_known(kind: &str) -> bool {
    KINDS.iter().any(|(name, _)| *name == kind)
}

/// Every key file of an example exists, each with another key.
fn policy(text: &str) -> Result<(), String> {
    let mut key = |_: &str| {
        let key = PrivateKey::generate().map_err(|error| error.to_string())?;
        key.public().to_pem().map_err(|error| error.to_string())
    };
    TrustPolicy::parse("trust.yaml", text, &mut key).map(drop).map_err(|error| error.to_string())
}

#[test]
fn every_example_of_a_file_is_read_by_its_parser() {
    let (mut read, mut wrong) = (0, Vec::new());
    for block in pages().iter().flat_map(super::Page::blocks) {
        let kind = KINDS.iter().find(|(name, _)| *name == block.about);
        if let Some((_, parse)) = kind.filter(|_| matches!(block.language.as_str(), "yaml" | "json")) {
            read += 1;
            wrong.extend(parse(&block.text).err().map(|error| format!("{}: {error}", block.place())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read >= KINDS.len(), "{read} examples: is each kind of file shown?");
}

#[test]
fn every_kind_of_file_has_an_example() {
    let blocks: Vec<_> = pages().iter().flat_map(super::Page::blocks).collect();
    let missing: Vec<_> = KINDS.iter().filter(|(kind, _)| !blocks.iter().any(|block| block.about == *kind)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
