//! What a client of the gateway writes into the request line and the headers of ranges.

use nebh_gateway::Name;
use nebh_gateway::http::action::Action;
use nebh_gateway::http::range::{Wanted, chunk, wanted};

/// `METHOD path[?query]`. Whatever is understood names one repository, by the grammar, and nothing is unescaped into it.
pub(crate) fn request(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((method, target)) = text.split_once(' ') else { return };
    let Ok(method) = method.parse() else { return };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let Ok(action) = Action::parse(&method, path, query) else { return };
    let repository = match &action {
        Action::Ping | Action::Catalog(_) => return,
        Action::Tags(repository, page) => {
            assert!(page.limit <= nebh_gateway::http::action::PAGE_MAX);
            repository
        }
        Action::GetManifest(repository, name) | Action::DeleteManifest(repository, name) => {
            spelled(path, name);
            repository
        }
        Action::PutManifest(repository, name, tags) => {
            spelled(path, name);
            assert!(tags.len() <= nebh_gateway::http::action::TAGS_MAX);
            repository
        }
        Action::GetBlob(repository, digest) | Action::DeleteBlob(repository, digest) => {
            assert!(path.replace("%3A", ":").replace("%3a", ":").ends_with(&digest.to_string()));
            repository
        }
        Action::Begin(repository, _)
        | Action::UploadStatus(repository, _)
        | Action::Append(repository, _)
        | Action::Finish(repository, _, _)
        | Action::Cancel(repository, _)
        | Action::Referrers { repository, .. } => repository,
    };
    let rest = path.strip_prefix("/v2/").and_then(|rest| rest.strip_prefix(repository.as_str()));
    assert!(rest.is_some_and(|rest| rest.starts_with('/')), "`{path}` was taken for repository `{repository}`");
}

fn spelled(path: &str, name: &Name) {
    let text = match name {
        Name::Tag(tag) => tag.to_string(),
        Name::Digest(digest) => digest.to_string(),
    };
    assert!(path.replace("%3A", ":").replace("%3a", ":").ends_with(&text), "`{path}` was taken for `{text}`");
}

/// Eight bytes of size, then a header. A part lies inside the body; a chunk has an end behind its start.
pub(crate) fn range(bytes: &[u8]) {
    let Some((size, header)) = bytes.split_first_chunk::<8>() else { return };
    let size = u64::from_be_bytes(*size);
    let Ok(header) = std::str::from_utf8(header) else { return };
    if let Wanted::Part { start, length } = wanted(Some(header), size) {
        assert!(length > 0 && start.checked_add(length).is_some_and(|end| end <= size));
    }
    if let Some((first, last)) = chunk(header) {
        assert!(first <= last && last.checked_add(1).is_some());
    }
}
