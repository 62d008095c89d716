//! The scene with the full disk: an edge whose data directory is a small file system, which something else fills. Pulls go
//! on; nothing is kept, and when there is room again, what fits is.
//!
//! The small file system is a tmpfs in a mount namespace of the edge's own, so it ends with the edge. Where that is not
//! allowed, the edge is told to leave more of the file system alone than there is, which is the same to it.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    image::Image,
    node::Node,
    registry::Registry,
    report::{Report, megabytes},
    story,
};

/// The small disk: less than the image, more than some of its layers.
const DISK_MB: u64 = 64;

/// How long it may take until what was pulled is kept.
const KEPT_DEADLINE: Duration = Duration::from_secs(10);

/// What a disk of any size has less of.
const NOTHING_FREE: &str = "cache.keep_free=1000000 GiB";

pub(crate) async fn pull_on_a_full_disk(
    report: &mut Report,
    program: &Path,
    home: &Path,
    mirror: &[&str],
    image: &Arc<Image>,
) -> Result<()> {
    report.step("Give a third edge a disk that is full, and pull through it");
    let small = on_a_small_disk(program, home, mirror).await;
    let (edge, filler) = match small {
        Ok(edge) => {
            let filler = fill(&edge, home)?;
            println!("   {} has a disk of {DISK_MB} MB, and something else has filled it", edge.name());
            (edge, Some(filler))
        }
        Err(_) => {
            let name = "edge-d";
            let edge = Node::start(program, home, name, &[mirror, &["--set", NOTHING_FREE]].concat()).await?;
            println!(
                "   {name} is to leave more of the disk alone than there is: nothing may be mounted here"
            );
            (edge, None)
        }
    };

    let pull = story::pull(&edge, image, 1).await?;
    report.claim(true, "every byte was hashed, and is the one that was pushed");
    let kept = edge.metric("roadstead_cache_bytes").await?;
    report.claim(kept == 0, format!("nothing of it was kept: {} are in the cache", megabytes(kept)));
    let streamed =
        pull.pulls.iter().flat_map(|pull| &pull.blob_statuses).filter(|said| !said.contains("stored"));
    let (streamed, blobs) = (streamed.count(), image.blobs.len());
    report.claim(
        streamed == blobs,
        format!("{streamed} of {blobs} blobs were streamed past the disk, and their Cache-Status says so: fwd=miss"),
    );
    report.row(pull.row("pull, the disk full", image));
    if let Some(filler) = filler {
        pull_with_room_again(report, &edge, image, &filler).await?;
    }
    let ready = Registry::new(edge.address()).get_text("/readyz").await.is_ok();
    report.claim(ready, format!("{} is ready, as it was all the time", edge.name()));
    Ok(())
}

async fn pull_with_room_again(
    report: &mut Report,
    edge: &Node,
    image: &Arc<Image>,
    filler: &Path,
) -> Result<()> {
    fs::remove_file(filler)?;
    story::pull(edge, image, 1).await?;
    // A client has its bytes a moment before they are kept.
    let end = Instant::now() + KEPT_DEADLINE;
    while edge.metric("roadstead_downloads_running").await? > 0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let kept = edge.metric("roadstead_cache_bytes").await?;
    report.claim(
        kept > 0 && kept < DISK_MB * 1_000_000,
        format!(
            "what filled the disk is gone, the next pull kept what fits: {} of {}",
            megabytes(kept),
            megabytes(image.bytes())
        ),
    );
    Ok(())
}

async fn on_a_small_disk(program: &Path, home: &Path, mirror: &[&str]) -> Result<Node> {
    let name = "edge-c";
    fs::create_dir_all(home.join(name))?;
    let mount = format!(
        "mount -t tmpfs -o size={DISK_MB}m roadstead-demo '{}' && exec \"$@\"",
        home.join(name).display()
    );
    let program = program.to_str().context("the path of the program is text")?;
    let within = ["--mount", "--", "sh", "-c", &mount, "sh", program];
    let arguments = [&within, mirror].concat();
    Node::start(Path::new("unshare"), home, name, &arguments).await
}

/// Writes until the disk takes no more; gives the file, by a path into the edge's view of the file system.
fn fill(edge: &Node, home: &Path) -> Result<PathBuf> {
    let data = home.join(edge.name());
    let data = data.strip_prefix("/").context("a temporary directory has an absolute path")?;
    let path =
        Path::new("/proc").join(edge.process_id().to_string()).join("root").join(data).join("somebody-elses");
    let mut file = File::create(&path)?;
    let piece = vec![1; 64 * 1024];
    loop {
        match file.write_all(&piece) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(path),
            Err(error) => return Err(error.into()),
        }
    }
}
