//! Lists, page by page: repositories, tags, referrers. Each page costs what it shows.

use std::sync::Arc;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Descriptor, ImageIndex};
use nebh_oci::media_type::OCI_INDEX;
use nebh_oci::names::Repository;

use super::action::{Page, REFERRERS_PAGE};
use super::error::{Code, Refusal};
use super::text_value;
use crate::gateway::Gateway;

fn json(value: &serde_json::Value, link: Option<HeaderValue>) -> Response {
    let mut response = ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response();
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// Cuts what was read to the page; `Some(last)` if there is more.
fn cut<T: Clone>(mut found: Vec<T>, limit: u32) -> (Vec<T>, Option<T>) {
    let limit = limit as usize;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = if more { found.last().cloned() } else { None };
    (found, last)
}

fn next(path: &str, query: &[(&str, &str)]) -> HeaderValue {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    text_value(&format!("<{path}?{query}>; rel=\"next\""))
}

/// One page of all repositories.
pub async fn catalog(gateway: &Arc<Gateway>, page: &Page) -> Result<Response, Refusal> {
    let found = gateway.db.repositories(page.after.as_deref(), page.limit + 1).await?;
    let (names, last) = cut(found, page.limit);
    let link = last.map(|last| next("/v2/_catalog", &[("n", &page.limit.to_string()), ("last", &last)]));
    Ok(json(&serde_json::json!({ "repositories": names }), link))
}

/// One page of a repository's tags.
pub async fn tags(gateway: &Arc<Gateway>, repository: &Repository, page: &Page) -> Result<Response, Refusal> {
    let found = gateway
        .db
        .tags(repository, page.after.as_deref(), page.limit + 1)
        .await?
        .ok_or_else(|| Refusal::new(Code::NameUnknown, format!("there is no repository `{repository}`")))?;
    let (names, last) = cut(found, page.limit);
    let path = format!("/v2/{repository}/tags/list");
    let link = last.map(|last| next(&path, &[("n", &page.limit.to_string()), ("last", &last)]));
    Ok(json(&serde_json::json!({ "name": repository, "tags": names }), link))
}

/// One page of what is attached to a manifest; an empty one for a manifest that nobody knows.
pub async fn referrers(
    gateway: &Arc<Gateway>,
    repository: &Repository,
    subject: &Digest,
    artifact_type: Option<&str>,
    after: Option<&Digest>,
) -> Result<Response, Refusal> {
    let found = gateway.db.referrers(repository, subject, artifact_type, after, REFERRERS_PAGE + 1).await?;
    let (found, last) = cut(found, REFERRERS_PAGE);
    let manifests = found.into_iter().map(|one| Descriptor {
        artifact_type: one.artifact_type,
        annotations: one.annotations,
        ..Descriptor::new(one.media_type, one.digest, one.size)
    });
    let index = ImageIndex { manifests: manifests.collect(), ..ImageIndex::default() };
    let bytes = nebh_oci::manifest::RawManifest::from_index(&index)
        .map_err(|error| Refusal::new(Code::Unknown, error.to_string()))?;
    let mut response = ([(header::CONTENT_TYPE, OCI_INDEX)], bytes.bytes().to_vec()).into_response();
    if artifact_type.is_some() {
        response.headers_mut().insert("oci-filters-applied", HeaderValue::from_static("artifactType"));
    }
    if let Some(last) = last {
        let digest = last.digest.to_string();
        let mut query = vec![("last", digest.as_str())];
        query.extend(artifact_type.map(|kind| ("artifactType", kind)));
        let path = format!("/v2/{repository}/referrers/{subject}");
        response.headers_mut().insert(header::LINK, next(&path, &query));
    }
    Ok(response)
}
