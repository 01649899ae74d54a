//! Refusals as clients see them: an HTTP status and the JSON body of the distribution specification.

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::db::DbError;
use crate::store::upload::UploadError;
use crate::store::{ReadError, StoreError};

/// The codes of the specification. Clients print them beside the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    TagInvalid,
    Denied,
    Unsupported,
    TooManyRequests,
    /// No such address: no code of the specification fits, and no client of it comes here.
    NotFound,
    /// The gateway failed.
    Unknown,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid | Self::TagInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown | Self::NotFound => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Denied => "DENIED",
            Self::Unsupported | Self::Unknown => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown
            | Self::NotFound => StatusCode::NOT_FOUND,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestBlobUnknown
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::SizeInvalid
            | Self::TagInvalid => StatusCode::BAD_REQUEST,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An answer that is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status line.
    pub status: StatusCode,
    /// The code in the body.
    pub code: Code,
    /// For a person.
    pub message: String,
    /// For a program.
    pub detail: Option<serde_json::Value>,
    /// Further headers.
    pub headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal with the code's own status.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { status: code.status(), code, message: message.into(), detail: None, headers: Vec::new() }
    }

    /// A method that the address does not know.
    pub fn method(method: &Method) -> Self {
        Self::new(Code::Unsupported, format!("{method} means nothing at this address"))
    }

    /// With another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// With a machine's view of it.
    #[must_use]
    pub fn detail(mut self, detail: serde_json::Value) -> Self {
        self.detail = Some(detail);
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut error = serde_json::json!({ "code": self.code.text(), "message": self.message });
        if let Some(detail) = self.detail {
            error["detail"] = detail;
        }
        let body = serde_json::json!({ "errors": [error] }).to_string();
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        response.headers_mut().extend(self.headers.into_iter().map(|(name, value)| (Some(name), value)));
        response
    }
}

/// What went wrong inside is for the log; the client learns that it was not its fault.
fn internal(error: &dyn std::error::Error) -> Refusal {
    tracing::error!(error = nebh_face::failure::chain(error), "a request failed");
    Refusal::new(Code::Unknown, "the gateway failed; its log says why")
}

fn failed(error: &dyn std::error::Error, is_full: bool) -> Refusal {
    let refusal = internal(error);
    if is_full {
        let full = Refusal::new(Code::Unknown, "the gateway's disk is full; what is stored can still be read");
        return full.status(StatusCode::INSUFFICIENT_STORAGE);
    }
    refusal
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        failed(&error, error.is_full())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        failed(&error, error.is_full())
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        internal(&error)
    }
}

impl From<UploadError> for Refusal {
    fn from(error: UploadError) -> Self {
        let message = error.to_string();
        match error {
            UploadError::Unknown(_) => Self::new(Code::BlobUploadUnknown, message),
            UploadError::Busy(_) => Self::new(Code::BlobUploadInvalid, message).status(StatusCode::CONFLICT),
            UploadError::TooMany(_) => {
                Self::new(Code::TooManyRequests, message).header(header::RETRY_AFTER, HeaderValue::from_static("10"))
            }
            UploadError::Broken { .. } => Self::new(Code::BlobUploadInvalid, message),
            UploadError::Stalled(_) => Self::new(Code::BlobUploadInvalid, message).status(StatusCode::REQUEST_TIMEOUT),
            UploadError::TooLarge(_) => Self::new(Code::SizeInvalid, message).status(StatusCode::PAYLOAD_TOO_LARGE),
            UploadError::Short { .. } | UploadError::Long(_) => Self::new(Code::SizeInvalid, message),
            UploadError::WrongDigest { .. } => Self::new(Code::DigestInvalid, message),
            UploadError::Store(store) => store.into(),
        }
    }
}
