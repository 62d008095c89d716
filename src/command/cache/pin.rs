//! `roadstead cache pin`, and the wait until all of the image is there.

use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::{Value, json};

use super::{Image, said};
use crate::{
    cli::Access,
    command::{
        Verdict,
        api::{Api, CallError},
        progress::{ASKED_EVERY, Progress},
        words,
    },
};

/// How long nothing of the image may come before the wait is given up; the edge goes on trying all the same.
const STALLED: Duration = Duration::from_secs(60);

/// What to do once the image is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Return,
    Wait,
}

pub(super) async fn pin(access: &Access, name: &str, then: Then) -> anyhow::Result<Verdict> {
    let api = Api::open(access)?;
    let pinned: Value = api.post("/api/v1/cache/pins", &[], Some(&json!({"image": name}))).await?;
    let mut image = look(&api, name).await?;
    if then == Then::Wait && !image.complete {
        image = wait(&api, name).await?;
    }
    let document = json!({
        "image": name,
        "digest": pinned["digest"],
        "pinned": true,
        "complete": image.complete,
        "bytes": image.bytes,
        "bytes_total": image.bytes_total,
    });
    let (total, left) = (words::size(image.bytes_total), image.bytes_total.saturating_sub(image.bytes));
    let page = match image.complete {
        true => format!("{name} is pinned, and all of it is here ({total})\n"),
        false => format!(
            "{name} is pinned; {} of {total} are lacking and are being fetched (--wait shows how far that is)\n",
            words::size(left)
        ),
    };
    said(access, &document, &page)
}

async fn look(api: &Api, name: &str) -> Result<Image, CallError> {
    api.get("/api/v1/cache/image", &[("image", name)]).await
}

async fn wait(api: &Api, name: &str) -> anyhow::Result<Image> {
    let mut progress = Progress::begin(name);
    let (mut reached, mut since) = (0, Instant::now());
    loop {
        let image = look(api, name).await?;
        let here = (image.bytes + image.partial_bytes).min(image.bytes_total);
        let blobs = format!("{} of {} blobs", image.blobs_whole, image.blobs);
        if image.complete {
            progress.end(here, image.bytes_total, &blobs);
            return Ok(image);
        }
        progress.at(here, image.bytes_total, &blobs);
        if here != reached {
            (reached, since) = (here, Instant::now());
        }
        if since.elapsed() > STALLED {
            progress.end(here, image.bytes_total, &blobs);
            bail!(
                "nothing more of {name} came for {STALLED:?}; it stays pinned and the edge goes on trying: \
                 `roadstead status` shows its upstreams and its space"
            );
        }
        tokio::time::sleep(ASKED_EVERY).await;
    }
}
