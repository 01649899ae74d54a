//! Compares two images that should be the same, down to the file of the layer that differs. Reads two layouts.

use std::collections::BTreeMap;
use std::io::{self, Read};

use nebh_oci::digest::{Algorithm, Digest, Hasher};
use nebh_oci::layout::Layout;
use nebh_oci::manifest::{Attached, Descriptor, ImageManifest, RawManifest};
use nebh_trust::bundle::Bundle;
use nebh_trust::provenance::Provenance;
use nebh_trust::statement::{SLSA_PROVENANCE_V1, Statement};

/// Differences of one layer that are written out.
const SHOWN_MAX: usize = 10;
/// Entries of one layer that are compared.
const ENTRIES_MAX: usize = 1_000_000;

/// The provenance among what is attached to an image. Whose it is does not matter here: it only says what to build again,
/// and the bytes decide.
pub fn provenance_of(image: &Digest, attached: &[Attached]) -> Option<Provenance> {
    attached.iter().flat_map(|one| &one.layers).find_map(|(_, bytes)| {
        let statement = Statement::parse(Bundle::parse(bytes).ok()?.envelope().payload()).ok()?;
        let about = statement.predicate_type() == SLSA_PROVENANCE_V1 && statement.subject(image).is_some();
        about.then(|| Provenance::from_predicate(statement.predicate()).ok()).flatten()
    })
}

/// How the second image differs from the first, one sentence each; empty if they are the same.
pub fn differences(first: (&Layout, &RawManifest), second: (&Layout, &RawManifest)) -> io::Result<Vec<String>> {
    if first.1.digest() == second.1.digest() {
        return Ok(Vec::new());
    }
    let (Some(one), Some(other)) = (first.1.image(), second.1.image()) else {
        return Ok(vec!["one of them is no image manifest".to_owned()]);
    };
    let mut found = Vec::new();
    if one.layers.len() != other.layers.len() {
        found.push(format!("{} layers, but {} the second time", one.layers.len(), other.layers.len()));
    }
    for (number, (left, right)) in one.layers.iter().zip(&other.layers).enumerate() {
        if left.digest != right.digest {
            found.extend(layer_differences(number + 1, (first.0, left), (second.0, right))?);
        }
    }
    if one.config.digest != other.config.digest && found.is_empty() {
        found.push(format!("image config {} became {}", one.config.digest.short(), other.config.digest.short()));
    }
    found.extend(other_differences(one, other));
    Ok(found)
}

fn other_differences(one: &ImageManifest, other: &ImageManifest) -> Vec<String> {
    let keys: std::collections::BTreeSet<&String> = one.annotations.keys().chain(other.annotations.keys()).collect();
    keys.into_iter()
        .filter(|key| one.annotations.get(*key) != other.annotations.get(*key))
        .map(|key| {
            let shown =
                |image: &ImageManifest| image.annotations.get(key).cloned().unwrap_or_else(|| "nothing".to_owned());
            format!("annotation `{key}`: {} became {}", shown(one), shown(other))
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    kind: u8,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    link: String,
    size: u64,
    content: Digest,
}

fn layer_differences(
    number: usize,
    left: (&Layout, &Descriptor),
    right: (&Layout, &Descriptor),
) -> io::Result<Vec<String>> {
    let (one, other) = (entries(left)?, entries(right)?);
    let paths: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let mut found: Vec<String> = paths
        .into_iter()
        .filter_map(|path| Some(format!("layer {number}: `{path}` {}", difference(one.get(path), other.get(path))?)))
        .collect();
    if found.is_empty() {
        found.push(format!("layer {number}: the same files in other bytes (order or compression)"));
    }
    if found.len() > SHOWN_MAX {
        let more = found.len() - SHOWN_MAX;
        found.truncate(SHOWN_MAX);
        found.push(format!("layer {number}: and {more} more"));
    }
    Ok(found)
}

fn difference(one: Option<&Seen>, other: Option<&Seen>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) if one == other => None,
        (Some(_), None) => Some("is missing the second time".to_owned()),
        (None, Some(_)) => Some("is only there the second time".to_owned()),
        (None, None) => None,
        (Some(one), Some(other)) => {
            let mut ways = Vec::new();
            if one.kind != other.kind {
                ways.push("is of another kind".to_owned());
            }
            if one.content != other.content {
                ways.push(format!("has other bytes ({} and {} of them)", one.size, other.size));
            }
            if one.mode != other.mode {
                ways.push(format!("has mode {:o}, then {:o}", one.mode, other.mode));
            }
            if one.owner != other.owner {
                ways.push(format!("belongs to {:?}, then {:?}", one.owner, other.owner));
            }
            if one.mtime != other.mtime {
                ways.push(format!("has time {}, then {}", one.mtime, other.mtime));
            }
            if one.link != other.link {
                ways.push(format!("points to `{}`, then `{}`", one.link, other.link));
            }
            Some(ways.join("; "))
        }
    }
}

fn entries((layout, layer): (&Layout, &Descriptor)) -> io::Result<BTreeMap<String, Seen>> {
    let blob = layout.open_blob(&layer.digest).map_err(io::Error::other)?;
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(blob)));
    let mut all = BTreeMap::new();
    for entry in archive.entries()?.take(ENTRIES_MAX) {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let link = entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned()).unwrap_or_default();
        let header = entry.header().clone();
        let size = entry.size();
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut chunk = vec![0; 1 << 16];
        loop {
            match entry.read(&mut chunk)? {
                0 => break,
                count => hasher.update(&chunk[..count]),
            }
        }
        let seen = Seen {
            kind: header.entry_type().as_byte(),
            mode: header.mode()?,
            owner: (header.uid()?, header.gid()?),
            mtime: header.mtime()?,
            link,
            size,
            content: hasher.finish(),
        };
        all.insert(path, seen);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assembly::{Entry, EntryPath, FileTree, Meta, write_layer};

    fn image(layout: &Layout, files: &[(&str, u32, u64, &str)]) -> RawManifest {
        let mut tree = FileTree::default();
        for (path, mode, mtime, text) in files {
            let entry = Entry::file(Meta::root(*mode, *mtime), text.as_bytes().to_vec());
            tree.insert(EntryPath::parse(path).unwrap(), entry).unwrap();
        }
        let layer = write_layer(layout, "test", &tree, 1_000).unwrap();
        let config = layout.put_bytes(b"{}").unwrap();
        let config = Descriptor::new(nebh_oci::media_type::OCI_CONFIG, config, 2);
        RawManifest::from_image(&ImageManifest::image(config, vec![layer.descriptor])).unwrap()
    }

    #[test]
    fn difference_names_the_file_and_how() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let first = image(
            &layout,
            &[("a", 0o644, 1, "same"), ("b", 0o644, 1, "one"), ("c", 0o600, 1, ""), ("d", 0o644, 1, "")],
        );
        let second = image(
            &layout,
            &[("a", 0o644, 1, "same"), ("b", 0o644, 1, "two!"), ("c", 0o644, 9, ""), ("e", 0o644, 1, "")],
        );
        assert_eq!(
            differences((&layout, &first), (&layout, &second)).unwrap(),
            [
                "layer 1: `b` has other bytes (3 and 4 of them)",
                "layer 1: `c` has mode 600, then 644; has time 1, then 9",
                "layer 1: `d` is missing the second time",
                "layer 1: `e` is only there the second time",
            ]
        );
        assert!(differences((&layout, &first), (&layout, &first)).unwrap().is_empty());
    }
}
