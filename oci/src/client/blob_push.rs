//! Pushing blobs: asked for first, then sent in one piece; a broken upload begins again.
//!
//! One POST, one PUT: chunked uploads cost a round trip for each chunk and win nothing where the line is good, and
//! registries differ in how they continue a broken one.

use std::path::Path;

use bytes::Bytes;
use reqwest::{Method, StatusCode};

use super::Client;
use super::auth::Access;
use super::error::{ClientError, ClientErrorKind};
use super::http::{Payload, location};
use super::retry::Setback;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::names::RepositoryAddress;

const ACTION: &str = "push blob";

impl Client {
    /// Whether the registry says that it has the blob.
    pub async fn has_blob(&self, address: &RepositoryAddress, digest: &Digest) -> Result<bool, ClientError> {
        let path = format!("blobs/{digest}");
        let call = self.call("look for blob", digest, address, (Access::Pull, Method::HEAD), &path)?;
        let response = self.send(&call).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        self.expect(&call, response, &[StatusCode::OK]).await?;
        Ok(true)
    }

    /// Pushes a blob from a file, unless the registry has it. The file is streamed, never held.
    pub async fn push_blob_file(
        &self,
        address: &RepositoryAddress,
        descriptor: &Descriptor,
        path: &Path,
    ) -> Result<(), ClientError> {
        let failed = |kind| ClientError::new(kind, ACTION, address, descriptor.digest);
        let metadata = tokio::fs::metadata(path).await;
        let size = metadata.map_err(|error| failed(ClientErrorKind::local(path, &error)))?.len();
        if size != descriptor.size {
            let message = format!("`{}` has {size} bytes instead of {}", path.display(), descriptor.size);
            return Err(failed(ClientErrorKind::Local { message }));
        }
        self.push_blob(address, descriptor, Payload::File(path, size)).await
    }

    /// Pushes a blob from memory, unless the registry has it.
    pub async fn push_blob_bytes(
        &self,
        address: &RepositoryAddress,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<(), ClientError> {
        let actual = Digest::of(descriptor.digest.algorithm(), bytes);
        if actual != descriptor.digest {
            let expected = descriptor.digest;
            let kind = ClientErrorKind::DigestMismatch { expected, actual };
            return Err(ClientError::new(kind, ACTION, address, descriptor.digest));
        }
        let payload = Payload::Bytes(Bytes::copy_from_slice(bytes), "application/octet-stream");
        self.push_blob(address, descriptor, payload).await
    }

    async fn push_blob(
        &self,
        address: &RepositoryAddress,
        descriptor: &Descriptor,
        payload: Payload<'_>,
    ) -> Result<(), ClientError> {
        if self.has_blob(address, &descriptor.digest).await? {
            return Ok(());
        }
        let mut tries = self.tries();
        loop {
            match self.upload_once(address, &descriptor.digest, payload.clone()).await {
                Ok(()) => return Ok(()),
                Err(setback) => tries.pause(setback).await?,
            }
        }
    }

    async fn upload_once(
        &self,
        address: &RepositoryAddress,
        digest: &Digest,
        payload: Payload<'_>,
    ) -> Result<(), Setback> {
        let mut call = self.call(ACTION, digest, address, (Access::Push, Method::POST), "blobs/uploads/")?;
        let response = self.send_once(&call).await?;
        // Some registries know at once that another repository has it.
        if response.status() == StatusCode::CREATED {
            return Ok(());
        }
        let response = self.expect(&call, response, &[StatusCode::ACCEPTED]).await?;
        let mut session = location(&response).map_err(|kind| call.fail(kind))?;
        if call.url.scheme() == "https" && session.scheme() != "https" {
            return Err(call.fail(ClientErrorKind::protocol("uploads go from TLS to plain HTTP")).into());
        }
        session.query_pairs_mut().append_pair("digest", &digest.to_string());
        (call.method, call.url, call.payload) = (Method::PUT, session, payload);
        let response = self.send_once(&call).await?;
        if response.status() == StatusCode::NOT_FOUND {
            // The session is gone (a restart, another replica): a new one may do.
            let message = "the upload session was forgotten".to_owned();
            return Err(Setback::Later(call.fail(ClientErrorKind::Unreachable { message }), None));
        }
        self.expect(&call, response, &[StatusCode::CREATED, StatusCode::NO_CONTENT]).await?;
        Ok(())
    }
}
