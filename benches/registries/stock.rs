//! Images of 1 GiB at an origin whose data is in memory, made once for all groups that pull them cold: each group has
//! mirrors of its own, which know nothing of them yet.

use std::cell::OnceCell;

use anyhow::Result;

use crate::blob::{Blob, Filling};
use crate::node::Node;
use crate::peers::Peers;
use crate::registry::{Manifest, push_image};
use crate::{Bench, GIB};

/// As many as any row has rounds.
pub(crate) const IMAGES: usize = 3;

/// An image with one layer to measure.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) tag: String,
    pub(crate) layer: Blob,
    pub(crate) manifest: Manifest,
}

/// An origin and what it has.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) origin: Node,
    pub(crate) large: Vec<Image>,
}

/// Made when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct Stock(OnceCell<Upstream>);

impl Bench {
    pub(crate) fn upstream(&self) -> Result<&Upstream> {
        if let Some(upstream) = self.stock.0.get() {
            return Ok(upstream);
        }
        let upstream = Upstream::fill(&self.peers, &self.filling)?;
        Ok(self.stock.0.get_or_init(|| upstream))
    }
}

impl Upstream {
    fn fill(peers: &Peers, filling: &Filling) -> Result<Self> {
        eprintln!("(pushing {IMAGES} images of 1 GiB to an origin in memory)");
        let origin = peers.in_memory().origin()?;
        let large = (0..IMAGES)
            .map(|at| image(&origin, filling, &format!("large-{at}"), GIB))
            .collect::<Result<_>>()?;
        Ok(Self { origin, large })
    }
}

/// Pushes an image of one layer of `size` bytes.
pub(crate) fn image(origin: &Node, filling: &Filling, tag: &str, size: u64) -> Result<Image> {
    let (config, layer) = (filling.blob(&format!("config {tag}"), 1024), filling.blob(tag, size));
    let manifest = push_image(origin.address, filling, tag, &[&config, &layer])?;
    Ok(Image { tag: tag.to_owned(), layer, manifest })
}
