//! Listings of tags and repositories.

use http::StatusCode;
use oci::{error::ErrorCode, http::json_response, name::RepositoryName};
use serde::Serialize;

use super::{
    Answer, Call, Registry,
    answer::{Page, link_next},
};

/// Entries of one page at most.
const PAGE: u32 = 10_000;

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a RepositoryName,
    tags: &'a [String],
}

#[derive(Serialize)]
struct RepositoryList<'a> {
    repositories: &'a [String],
}

impl Registry {
    pub(super) async fn tags(&self, repository: &RepositoryName, call: &Call) -> Answer {
        let page = Page::of(&call.query, PAGE)?;
        let listed = self.database.tags(repository, page.last, page.limit()).await?;
        let mut tags =
            listed.ok_or_else(|| ErrorCode::NameUnknown.error("the registry has no such repository"))?;
        let more = page.cut(&mut tags);
        let document =
            serde_json::to_vec(&TagList { name: repository, tags: &tags }).expect("strings serialize");
        let mut response = json_response(StatusCode::OK, document);
        if let (true, Some(last)) = (more, tags.last()) {
            let path = format!("/v2/{repository}/tags/list");
            link_next(&mut response, &path, &[("n", &page.n.to_string()), ("last", last)]);
        }
        Ok(response)
    }

    pub(super) async fn catalog(&self, call: &Call) -> Answer {
        let page = Page::of(&call.query, PAGE)?;
        let visible = call.pass.visible(&self.database).await?;
        let mut repositories = self.database.repositories(page.last, page.limit(), &visible).await?;
        let more = page.cut(&mut repositories);
        let list = RepositoryList { repositories: &repositories };
        let mut response =
            json_response(StatusCode::OK, serde_json::to_vec(&list).expect("strings serialize"));
        if let (true, Some(last)) = (more, repositories.last()) {
            link_next(&mut response, "/v2/_catalog", &[("n", &page.n.to_string()), ("last", last)]);
        }
        Ok(response)
    }
}
