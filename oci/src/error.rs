//! The error document of the distribution specification ("Error Codes") and the one map from code to status.
//!
//! Handlers return an [`ApiError`]; what went wrong inside is logged where it happened and never put in here.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::Value;

/// The codes of the specification, and the few that registries added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The blob is not in this repository.
    BlobUnknown,
    /// The upload cannot go on as asked.
    BlobUploadInvalid,
    /// There is no such upload.
    BlobUploadUnknown,
    /// The digest is malformed, or not that of the bytes sent.
    DigestInvalid,
    /// A manifest names a blob or manifest that the repository does not have.
    ManifestBlobUnknown,
    /// The manifest is not one.
    ManifestInvalid,
    /// The manifest is not in this repository.
    ManifestUnknown,
    /// The repository's name is out of grammar.
    NameInvalid,
    /// The repository does not exist.
    NameUnknown,
    /// The tag is out of grammar.
    TagInvalid,
    /// `n` or `last` of a listing is no such thing.
    PaginationNumberInvalid,
    /// A range that the content or the upload does not have.
    RangeInvalid,
    /// A length that does not fit.
    SizeInvalid,
    /// More bytes than the limit.
    TooLarge,
    /// Who is asking?
    Unauthorized,
    /// Known, and not allowed.
    Denied,
    /// The operation is not offered.
    Unsupported,
    /// Later.
    TooManyRequests,
    /// The request itself is malformed.
    BadRequest,
    /// There is no such page.
    NotFound,
    /// The client took too long to say what it wants.
    Timeout,
    /// This node cannot serve now; another may.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl ErrorCode {
    /// The code as it stands in the document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::TagInvalid => "TAG_INVALID",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::SizeInvalid | Self::TooLarge => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::BadRequest => "BAD_REQUEST",
            Self::NotFound => "NOT_FOUND",
            Self::Timeout => "REQUEST_TIMEOUT",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "UNKNOWN",
        }
    }

    /// The status that goes with it.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestUnknown
            | Self::ManifestBlobUnknown
            | Self::NameUnknown
            | Self::NotFound => StatusCode::NOT_FOUND,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::TagInvalid
            | Self::PaginationNumberInvalid
            | Self::SizeInvalid
            | Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::RangeInvalid => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// An error with this code: `message` is a sentence for the person who made the request.
    pub fn error(self, message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError(Box::new(Inner {
            code: self,
            status: self.status(),
            message: message.into(),
            detail: None,
            headers: Vec::new(),
        }))
    }
}

/// An answer that is an error document: `{"errors":[{"code","message","detail"}]}`.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", .0.code.as_str(), .0.message)]
pub struct ApiError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: ErrorCode,
    status: StatusCode,
    message: Cow<'static, str>,
    detail: Option<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Document<'a> {
    errors: [Entry<'a>; 1],
}

#[derive(Serialize)]
struct Entry<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a Value>,
}

impl ApiError {
    /// Adds what a program may want to know: the missing digests, the limit.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Value>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Answers with another status than the code's own, where the specification asks for it.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Adds `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The code.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// The status of the answer.
    pub fn status_code(&self) -> StatusCode {
        self.0.status
    }

    /// The sentence in it.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The document as JSON.
    pub fn document(&self) -> Vec<u8> {
        let document = Document {
            errors: [Entry {
                code: self.0.code.as_str(),
                message: &self.0.message,
                detail: self.0.detail.as_ref(),
            }],
        };
        serde_json::to_vec(&document).expect("strings and JSON values serialize")
    }

    /// The headers that were added.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.headers.iter().map(|(name, value)| (name, value))
    }
}

impl From<crate::name::InvalidName> for ApiError {
    fn from(error: crate::name::InvalidName) -> Self {
        use crate::name::InvalidName;
        match error {
            InvalidName::Repository | InvalidName::RepositoryTooLong => ErrorCode::NameInvalid,
            InvalidName::Tag => ErrorCode::TagInvalid,
        }
        .error(error.to_string())
    }
}

impl From<crate::digest::InvalidDigest> for ApiError {
    fn from(error: crate::digest::InvalidDigest) -> Self {
        ErrorCode::DigestInvalid.error(error.to_string())
    }
}

impl From<crate::name::InvalidReference> for ApiError {
    fn from(error: crate::name::InvalidReference) -> Self {
        use crate::name::InvalidReference;
        match error {
            InvalidReference::Digest(error) => error.into(),
            InvalidReference::Tag(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_the_specifications() {
        let error = ErrorCode::BlobUnknown.error("no such blob").detail("sha256:…");
        assert_eq!(error.status_code(), StatusCode::NOT_FOUND);
        let value: Value = serde_json::from_slice(&error.document()).expect("JSON");
        assert_eq!(
            value,
            serde_json::json!({"errors": [{"code": "BLOB_UNKNOWN", "message": "no such blob", "detail": "sha256:…"}]})
        );
    }
}
