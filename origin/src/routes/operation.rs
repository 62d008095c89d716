//! What a request under `/v2/` does, and what it needs for that: each operation names it, or this does not compile.

use gossip::access::Action;
use http::Method;
use oci::{
    digest::Digest,
    name::{Reference, RepositoryName},
    route::Route,
};

/// A method at a route.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation<'a> {
    Version,
    Catalog,
    Tags(&'a RepositoryName),
    Referrers(&'a RepositoryName, &'a Digest),
    GetManifest(&'a RepositoryName, &'a Reference),
    HeadManifest(&'a RepositoryName, &'a Reference),
    PutManifest(&'a RepositoryName, &'a Reference),
    DeleteManifest(&'a RepositoryName, &'a Reference),
    GetBlob(&'a RepositoryName, &'a Digest),
    HeadBlob(&'a RepositoryName, &'a Digest),
    DeleteBlob(&'a RepositoryName, &'a Digest),
    PostUpload(&'a RepositoryName),
    GetUpload(&'a RepositoryName, &'a str),
    PatchUpload(&'a RepositoryName, &'a str),
    PutUpload(&'a RepositoryName, &'a str),
    DeleteUpload(&'a RepositoryName, &'a str),
}

/// What the caller has to be allowed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need<'a> {
    /// To know that this is a registry.
    Presence,
    /// A list of repositories; what is in it is decided one by one.
    Catalog,
    /// Something in a repository.
    In(&'a RepositoryName, Action),
}

impl<'a> Operation<'a> {
    /// `None`: the method is not offered there.
    pub(super) fn of(method: &Method, route: &'a Route) -> Option<Self> {
        Some(match (method.as_str(), route) {
            ("GET" | "HEAD", Route::Version) => Self::Version,
            ("GET" | "HEAD", Route::Catalog) => Self::Catalog,
            ("GET" | "HEAD", Route::Tags(repository)) => Self::Tags(repository),
            ("GET" | "HEAD", Route::Referrers(repository, subject)) => Self::Referrers(repository, subject),
            ("GET", Route::Manifest(repository, reference)) => Self::GetManifest(repository, reference),
            ("HEAD", Route::Manifest(repository, reference)) => Self::HeadManifest(repository, reference),
            ("PUT", Route::Manifest(repository, reference)) => Self::PutManifest(repository, reference),
            ("DELETE", Route::Manifest(repository, reference)) => Self::DeleteManifest(repository, reference),
            ("GET", Route::Blob(repository, digest)) => Self::GetBlob(repository, digest),
            ("HEAD", Route::Blob(repository, digest)) => Self::HeadBlob(repository, digest),
            ("DELETE", Route::Blob(repository, digest)) => Self::DeleteBlob(repository, digest),
            ("POST", Route::Uploads(repository)) => Self::PostUpload(repository),
            ("GET" | "HEAD", Route::Upload(repository, id)) => Self::GetUpload(repository, id),
            ("PATCH", Route::Upload(repository, id)) => Self::PatchUpload(repository, id),
            ("PUT", Route::Upload(repository, id)) => Self::PutUpload(repository, id),
            ("DELETE", Route::Upload(repository, id)) => Self::DeleteUpload(repository, id),
            _ => return None,
        })
    }

    /// What it needs.
    pub(super) fn need(self) -> Need<'a> {
        match self {
            Self::Version => Need::Presence,
            Self::Catalog => Need::Catalog,
            Self::Tags(repository)
            | Self::Referrers(repository, _)
            | Self::GetManifest(repository, _)
            | Self::GetBlob(repository, _) => Need::In(repository, Action::Pull),
            Self::HeadManifest(repository, _) | Self::HeadBlob(repository, _) => {
                Need::In(repository, Action::Stat)
            }
            Self::PutManifest(repository, _)
            | Self::PostUpload(repository)
            | Self::GetUpload(repository, _)
            | Self::PatchUpload(repository, _)
            | Self::PutUpload(repository, _)
            | Self::DeleteUpload(repository, _) => Need::In(repository, Action::Push),
            Self::DeleteManifest(repository, _) | Self::DeleteBlob(repository, _) => {
                Need::In(repository, Action::Delete)
            }
        }
    }

    /// Whether it is switched off with `registry.delete`.
    pub(super) fn deletes(self) -> bool {
        matches!(self, Self::DeleteManifest(..) | Self::DeleteBlob(..))
    }
}
