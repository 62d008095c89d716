//! The paths of the distribution specification ("Endpoints"), read once.
//!
//! A path is percent-decoded exactly once, before anything looks at it. An encoded slash, backslash or control character
//! is refused, so that what the router decided on is what everybody else sees.

use percent_encoding::percent_decode_str;

use crate::{
    digest::Digest,
    error::{ApiError, ErrorCode},
    name::{Reference, RepositoryName},
};

/// What a path under `/v2/` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: is there a registry?
    Version,
    /// `/v2/_catalog`: the repositories.
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`: where uploads begin.
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<id>`: one upload.
    Upload(RepositoryName, String),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
}

/// The longest upload id that is looked at, in bytes.
const MAX_UPLOAD_ID: usize = 128;

impl Route {
    /// Reads a path that [`decode_path`] gave.
    ///
    /// # Errors
    /// `NOT_FOUND` where the path is none of the specification's, `NAME_INVALID`, `TAG_INVALID` or `DIGEST_INVALID`
    /// where it is, with an element out of grammar.
    pub fn parse(path: &str) -> Result<Self, ApiError> {
        let rest = match path {
            "/v2" | "/v2/" => return Ok(Self::Version),
            _ => path.strip_prefix("/v2/").ok_or_else(not_found)?,
        };
        if rest == "_catalog" {
            return Ok(Self::Catalog);
        }
        // The last elements decide: a repository may itself be called `a/blobs` or `tags`.
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(name.parse()?));
        }
        if let Some(name) =
            rest.strip_suffix("/blobs/uploads").or_else(|| rest.strip_suffix("/blobs/uploads/"))
        {
            return Ok(Self::Uploads(name.parse()?));
        }
        let (head, last) = rest.rsplit_once('/').ok_or_else(not_found)?;
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            if !is_upload_id(last) {
                return Err(ErrorCode::BlobUploadUnknown.error("there is no such upload"));
            }
            return Ok(Self::Upload(name.parse()?, last.to_owned()));
        }
        let (name, kind) = head.rsplit_once('/').ok_or_else(not_found)?;
        match kind {
            "manifests" => Ok(Self::Manifest(name.parse()?, last.parse()?)),
            "blobs" => Ok(Self::Blob(name.parse()?, last.parse()?)),
            "referrers" => Ok(Self::Referrers(name.parse()?, last.parse()?)),
            _ => Err(not_found()),
        }
    }

    /// The repository, where the route is within one.
    pub fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Version | Self::Catalog => None,
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => Some(name),
        }
    }

    /// A constant name for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Catalog => "catalog",
            Self::Tags(_) => "tags",
            Self::Manifest(..) => "manifest",
            Self::Blob(..) => "blob",
            Self::Uploads(_) | Self::Upload(..) => "upload",
            Self::Referrers(..) => "referrers",
        }
    }
}

fn is_upload_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_UPLOAD_ID
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=.".contains(&b))
}

fn not_found() -> ApiError {
    ErrorCode::NotFound.error("there is nothing at this path")
}

/// Decodes a request's path.
///
/// # Errors
/// `NAME_INVALID` where it is not UTF-8, or has an encoded slash, a backslash or a control character in it.
pub fn decode_path(raw: &str) -> Result<std::borrow::Cow<'_, str>, ApiError> {
    let invalid = |what: &'static str| ErrorCode::NameInvalid.error(what);
    let lower_2f = raw.as_bytes().windows(3).any(|w| w.eq_ignore_ascii_case(b"%2f"));
    if lower_2f {
        return Err(invalid("a slash in the path must not be percent-encoded"));
    }
    let Ok(path) = percent_decode_str(raw).decode_utf8() else {
        return Err(invalid("the path is not valid UTF-8"));
    };
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Err(invalid("the path contains a control character or a backslash"));
    }
    Ok(path)
}

/// The parameters of a query, decoded, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part behind the `?`.
    pub fn parse(raw: Option<&str>) -> Self {
        Self(
            raw.map_or_else(Vec::new, |raw| {
                url::form_urlencoded::parse(raw.as_bytes()).into_owned().collect()
            }),
        )
    }

    /// The first value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// All values of `key`.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(path: &str) -> ErrorCode {
        let decoded = match decode_path(path) {
            Ok(decoded) => decoded,
            Err(error) => return error.code(),
        };
        match Route::parse(&decoded) {
            Ok(route) => panic!("{path} was taken for {route:?}"),
            Err(error) => error.code(),
        }
    }

    #[test]
    fn the_specifications_paths_are_read() {
        let digest = Digest::sha256(b"");
        let parse = |path: &str| Route::parse(path).expect(path);
        assert_eq!(parse("/v2/"), Route::Version);
        assert_eq!(parse("/v2"), Route::Version);
        assert_eq!(parse("/v2/_catalog"), Route::Catalog);
        let name: RepositoryName = "a/b".parse().expect("name");
        assert_eq!(parse("/v2/a/b/tags/list"), Route::Tags(name.clone()));
        assert_eq!(parse("/v2/a/b/manifests/v1"), Route::Manifest(name.clone(), "v1".parse().expect("tag")));
        assert_eq!(parse(&format!("/v2/a/b/blobs/{digest}")), Route::Blob(name.clone(), digest.clone()));
        assert_eq!(parse("/v2/a/b/blobs/uploads/"), Route::Uploads(name.clone()));
        assert_eq!(parse("/v2/a/b/blobs/uploads/x-1"), Route::Upload(name.clone(), "x-1".into()));
        assert_eq!(parse(&format!("/v2/a/b/referrers/{digest}")), Route::Referrers(name, digest));
        // Names that look like routes.
        assert_eq!(parse("/v2/blobs/uploads/manifests/v1").label(), "manifest");
        assert_eq!(parse("/v2/tags/tags/list").label(), "tags");
    }

    #[test]
    fn tricks_between_router_and_decision_are_refused() {
        for path in [
            "/v2/a/../b/manifests/x",
            "/v2/a/%2e%2e/b/manifests/x",
            "/v2/a//b/manifests/x",
            "/v2/a/./b/manifests/x",
            "/v2/A/manifests/x",
            "/v2/a%2fb/manifests/x",
            "/v2/a%2Fb/manifests/x",
            "/v2/a%5cb/manifests/x",
            "/v2/a%00/manifests/x",
            "/v2/a%0d%0ab/manifests/x",
            "/v2/%ff/manifests/x",
            "/v2/a%252fb/manifests/x",
            "/v2//manifests/x",
        ] {
            assert_eq!(code(path), ErrorCode::NameInvalid, "{path}");
        }
        assert_eq!(code("/v2/a/manifests/sha256:123"), ErrorCode::DigestInvalid);
        assert_eq!(code("/v2/a/blobs/latest"), ErrorCode::DigestInvalid);
        assert_eq!(code("/v2/a/manifests/-x"), ErrorCode::TagInvalid);
        assert_eq!(code("/v2/a/blobs/uploads/ü"), ErrorCode::BlobUploadUnknown);
        assert_eq!(code("/v1/"), ErrorCode::NotFound);
        assert_eq!(code("/v2/a/other/x"), ErrorCode::NotFound);
    }

    #[test]
    fn an_encoded_colon_is_a_colon() {
        let path = format!("/v2/a/blobs/{}", Digest::sha256(b"").as_str().replace(':', "%3A"));
        assert_eq!(Route::parse(&decode_path(&path).expect("fine")).expect("fine").label(), "blob");
    }

    proptest! {
        #[test]
        fn no_path_makes_the_parser_panic(path in "/v2/.{0,200}|.{0,100}") {
            if let Ok(path) = decode_path(&path) {
                let _ = Route::parse(&path);
            }
            let _ = Query::parse(Some(&path));
        }
    }
}
