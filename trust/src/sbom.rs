//! Bills of materials from the lock: CycloneDX 1.6 and SPDX 2.3, minimal and deterministic. Pure.
//!
//! They are written from what was locked, never from scanning the result, and hold no time and no random serial
//! number: a rebuild makes the same bytes.

use nebh_oci::digest::Digest;
use nebh_oci::json::{self, JsonError};
use serde_json::{Value, json};

/// One thing that went into an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its package URL: `pkg:deb/debian/…`, `pkg:cargo/…`. Unique in the list.
    pub purl: String,
    /// SHA-256 of the package that was used.
    pub sha256: Option<Digest>,
}

/// What the bill is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Repository of the image.
    pub name: String,
    /// Digest of the image's manifest.
    pub digest: Digest,
}

/// CycloneDX 1.6, as JSON.
pub fn cyclonedx(image: &Described, components: &[Component]) -> Value {
    let list: Vec<Value> = sorted(components)
        .iter()
        .map(|component| {
            let mut entry = json!({
                "type": "library",
                "bom-ref": component.purl,
                "name": component.name,
                "version": component.version,
                "purl": component.purl,
            });
            if let Some(digest) = &component.sha256 {
                entry["hashes"] = json!([{ "alg": "SHA-256", "content": digest.hex() }]);
            }
            entry
        })
        .collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": {
            "type": "container",
            "bom-ref": image.digest.to_string(),
            "name": image.name,
            "version": image.digest.to_string(),
            "hashes": [{ "alg": "SHA-256", "content": image.digest.hex() }],
        }},
        "components": list,
    })
}

/// SPDX 2.3, as JSON. The creation time is an argument, because SPDX demands one: the commit's.
pub fn spdx(image: &Described, components: &[Component], created: jiff::Timestamp) -> Value {
    let root = "SPDXRef-image";
    let components = sorted(components);
    let mut packages = vec![json!({
        "SPDXID": root,
        "name": image.name,
        "versionInfo": image.digest.to_string(),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{ "algorithm": "SHA256", "checksumValue": image.digest.hex() }],
    })];
    let mut relationships = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": root,
    })];
    for component in &components {
        // An SPDX id permits few characters; the hash of the package URL is unique and stable.
        let id = format!("SPDXRef-{}", Digest::sha256(component.purl.as_bytes()).hex());
        let mut package = json!({
            "SPDXID": id,
            "name": component.name,
            "versionInfo": component.version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": component.purl,
            }],
        });
        if let Some(digest) = &component.sha256 {
            package["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": digest.hex() }]);
        }
        packages.push(package);
        relationships.push(json!({
            "spdxElementId": root,
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": id,
        }));
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": image.name,
        "documentNamespace": format!("https://nebh.invalid/spdx/{}", image.digest.hex()),
        "creationInfo": { "created": to_the_second(created), "creators": ["Tool: nebh"] },
        "packages": packages,
        "relationships": relationships,
    })
}

/// The bytes of either document.
pub fn to_bytes(document: &Value) -> Result<Vec<u8>, JsonError> {
    json::canonical(document)
}

/// SPDX permits no fractions of a second.
fn to_the_second(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// By package URL, each once: the order of a lock file is nobody's business.
fn sorted(components: &[Component]) -> Vec<Component> {
    let mut list = components.to_vec();
    list.sort_by(|one, other| (&one.purl, one).cmp(&(&other.purl, other)));
    list.dedup_by(|one, other| one.purl == other.purl);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Described {
        Described { name: "shop/api".to_owned(), digest: Digest::sha256(b"x") }
    }

    fn component(name: &str) -> Component {
        Component {
            name: name.to_owned(),
            version: "1.0".to_owned(),
            purl: format!("pkg:cargo/{name}@1.0"),
            sha256: Some(Digest::sha256(name.as_bytes())),
        }
    }

    #[test]
    fn order_and_repetition_do_not_matter() {
        let one = [component("a"), component("b")];
        let other = [component("b"), component("a"), component("b")];
        assert_eq!(cyclonedx(&image(), &one), cyclonedx(&image(), &other));
        let time = jiff::Timestamp::UNIX_EPOCH;
        assert_eq!(spdx(&image(), &one, time), spdx(&image(), &other, time));
    }

    #[test]
    fn documents_name_version_and_component() {
        let document = cyclonedx(&image(), &[component("a")]);
        assert_eq!(document["specVersion"], "1.6");
        assert_eq!(document["components"][0]["purl"], "pkg:cargo/a@1.0");
        let time = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let document = spdx(&image(), &[component("a")], time);
        assert_eq!(document["creationInfo"]["created"], "2026-01-01T00:00:00Z");
        assert_eq!(document["packages"].as_array().unwrap().len(), 2);
    }
}
