//! What the demo tells, step by step: each does something, measures it, and claims only what it has checked.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    full_disk,
    image::Image,
    node::Node,
    registry::{PROJECT, Pulled, REPOSITORY, Registry, TAG},
    report::{Report, Row, answers, megabytes, progress},
};

/// How many pull at the same moment.
const CROWD: usize = 32;

/// What may come over the upstream link beside the image itself, as a share of it: what HTTP says around it.
const OVERHEAD: f64 = 0.005;

/// No step takes this long, on the slowest machine and in the busiest hour. A node that hangs must not hang the story.
const STEP_DEADLINE: Duration = Duration::from_secs(180);

/// How the story went, and what still runs after it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) all_true: bool,
    pub(crate) edge_a: Node,
    pub(crate) edge_b: Node,
}

/// Tells all of it. A claim that does not hold is told and counted; what makes the next step impossible is an error.
pub(crate) async fn tell(home: &Path) -> Result<Told> {
    println!(
        "Roadstead keeps container images at an origin and serves them from edges, close to the machines that pull."
    );
    println!(
        "Here is one origin with two edges, on this machine, for real. A ✓ stands before what was checked just then."
    );
    let mut report = Report::default();

    report.step("Start an origin, log in, and start two edges with a login of their own");
    let program = program()?;
    let mut origin = Node::start(&program, home, "origin", &["origin"]).await?;
    let admin = log_in(&mut report, &origin, home).await?;
    let config = edges_secret(&admin, &origin, home).await?;
    let mirror = ["edge", "--config", &config];
    let edge_a = Node::start(&program, home, "edge-a", &mirror).await?;
    let edge_b = Node::start(&program, home, "edge-b", &mirror).await?;
    println!("   {}   the registry that images are pushed to", origin.url());
    println!("   {}   edge-a, a mirror as one datacenter would have it", edge_a.url());
    println!("   {}   edge-b, the mirror of another datacenter", edge_b.url());

    report.step(format!("Make an image, {REPOSITORY}:{TAG}"));
    let directory = home.to_owned();
    let image = Arc::new(tokio::task::spawn_blocking(move || Image::make(&directory)).await??);
    println!("   {} of noise in {} layers", megabytes(image.bytes()), image.layers);

    push(&mut report, &admin, &image).await?;
    pull_cold(&mut report, &edge_a, &image).await?;
    pull_warm(&mut report, &edge_a, &image).await?;
    pull_as_a_crowd(&mut report, &edge_b, &image).await?;
    full_disk::pull_on_a_full_disk(&mut report, &program, home, &mirror, &image).await?;
    kill(&mut report, &mut origin).await?;
    pull_without_the_origin(&mut report, &edge_a, &image).await?;

    Ok(Told { all_true: report.finish(), edge_a, edge_b })
}

/// `target/release/roadstead`, beside which cargo puts the directory of this program.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let directory =
        own.parent().and_then(Path::parent).context("the demo runs from cargo's target directory")?;
    let program = directory.join("roadstead");
    ensure!(program.is_file(), "there is no {}; `make demo` builds it", program.display());
    Ok(program)
}

/// The first login: the password of `admin` is in a file that the origin has written. Makes the project.
async fn log_in(report: &mut Report, origin: &Node, home: &Path) -> Result<Registry> {
    let password = std::fs::read_to_string(home.join("origin/admin.password"))?;
    let admin = Registry::new(origin.address()).logged_in("admin", password.trim());
    report.claim(admin.refuses_strangers().await?, "whoever does not log in is refused");
    let project = admin.make("projects", &json!({"name": PROJECT})).await?;
    let private = project["public"] == json!(false);
    report.claim(private, format!("admin is logged in and has made the private project {PROJECT}"));
    Ok(admin)
}

/// Makes a robot that only pulls, and a configuration for edges that log in as it; its path.
async fn edges_secret(admin: &Registry, origin: &Node, home: &Path) -> Result<String> {
    let robot = admin.make("robots", &json!({"name": "system+edge", "may": ["pull"]})).await?;
    let secret = robot["secret"].as_str().context("a robot has a secret")?;
    let (file, config) = (home.join("edge.secret"), home.join("edge.toml"));
    std::fs::write(&file, secret)?;
    let (address, url) = (origin.address(), origin.url());
    let upstream = format!(
        "[upstream.\"{address}\"]\nurl = \"{url}\"\ndefault = true\nusername = \"system+edge\"\npassword_file = {file:?}\n"
    );
    std::fs::write(&config, upstream)?;
    Ok(config.display().to_string())
}

async fn push(report: &mut Report, registry: &Registry, image: &Image) -> Result<()> {
    report.step("Push it to the origin");
    let bar = progress(image.bytes());
    let begin = Instant::now();
    timeout(STEP_DEADLINE, registry.push(image, &bar)).await.context("the push does not end")??;
    let time = begin.elapsed();
    bar.finish_and_clear();
    report.claim(
        true,
        format!("the origin has all of it, under the digest {}…", short(&image.manifest_digest)),
    );
    report.row(Row {
        what: "push to the origin",
        time,
        bytes: image.bytes(),
        came_from: "this program".to_owned(),
        upstream: "-".to_owned(),
    });
    Ok(())
}

async fn pull_cold(report: &mut Report, edge: &Node, image: &Arc<Image>) -> Result<()> {
    report.step(format!("Pull it through {}, which has never seen it", edge.name()));
    let pull = pull(edge, image, 1).await?;
    report.claim(true, "every byte was hashed, and is the one that was pushed");
    report.claim(pull.came_once(image), pull.upstream_told(image));
    report.row(pull.row("pull, cold", image));
    Ok(())
}

async fn pull_warm(report: &mut Report, edge: &Node, image: &Arc<Image>) -> Result<()> {
    report.step(format!("Pull it through {} again", edge.name()));
    let pull = pull(edge, image, 1).await?;
    report.claim(true, "every byte was hashed, and is the one that was pushed");
    report.claim(pull.upstream == 0, pull.upstream_told(image));
    report.row(pull.row("pull, warm", image));
    Ok(())
}

async fn pull_as_a_crowd(report: &mut Report, edge: &Node, image: &Arc<Image>) -> Result<()> {
    report.step(format!(
        "{CROWD} clients pull it at once through {}, which has never seen it either",
        edge.name()
    ));
    let pull = pull(edge, image, CROWD).await?;
    let total = megabytes(image.bytes() * CROWD as u64);
    report.claim(true, format!("{CROWD} whole images arrived, {total}; every byte was hashed"));
    report.claim(pull.came_once(image), pull.upstream_told(image));
    report.row(pull.row("32 pulls at once, cold", image));
    Ok(())
}

async fn kill(report: &mut Report, origin: &mut Node) -> Result<()> {
    report.step(format!("Kill the origin: SIGKILL to process {}", origin.process_id()));
    origin.kill()?;
    let answers = TcpStream::connect(origin.address()).await.is_ok();
    report.claim(!answers, format!("nothing listens at {} any more", origin.address()));
    Ok(())
}

async fn pull_without_the_origin(report: &mut Report, edge: &Node, image: &Arc<Image>) -> Result<()> {
    report.step(format!("Pull it through {} once more, with nothing behind it", edge.name()));
    let pull = pull(edge, image, 1).await?;
    report.claim(true, "the tag resolved, and every byte is the one that was pushed");
    for Pulled { tag_status, warning, .. } in &pull.pulls {
        report.claim(
            tag_status.contains("detail=offline"),
            format!("the answer for the tag says that the origin is gone: Cache-Status: {tag_status}"),
        );
        let warning = warning.as_deref().unwrap_or("(no warning)");
        report.claim(warning.starts_with("299 "), format!("and since when: Warning: {warning}"));
    }
    report.row(pull.row("pull, the origin dead", image));
    Ok(())
}

/// Some pulls that ran at once, and what they cost.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) pulls: Vec<Pulled>,
    time: Duration,
    /// Bytes that the edge received from the origin meanwhile, as its metrics tell.
    upstream: u64,
}

impl Measured {
    /// Whether the whole image came from upstream, and came once. Its manifest may have come earlier or count as overhead.
    fn came_once(&self, image: &Image) -> bool {
        let blobs: u64 = image.blobs.iter().map(|blob| blob.size).sum();
        self.upstream >= blobs && self.times(image) <= 1.0 + OVERHEAD
    }

    fn times(&self, image: &Image) -> f64 {
        self.upstream as f64 / image.bytes() as f64
    }

    fn upstream_told(&self, image: &Image) -> String {
        match self.upstream {
            0 => "nothing came over the upstream link".to_owned(),
            bytes => format!(
                "{} came over the upstream link: the image {:.2} times",
                megabytes(bytes),
                self.times(image)
            ),
        }
    }

    pub(crate) fn row(&self, what: &'static str, image: &Image) -> Row {
        let upstream = match self.upstream {
            0 => "nothing".to_owned(),
            bytes => format!("{} ({:.2}x)", megabytes(bytes), self.times(image)),
        };
        Row {
            what,
            time: self.time,
            bytes: image.bytes() * self.pulls.len() as u64,
            came_from: answers(&self.pulls),
            upstream,
        }
    }
}

/// Pulls with so many clients at once, each with connections of its own.
pub(crate) async fn pull(edge: &Node, image: &Arc<Image>, clients: usize) -> Result<Measured> {
    const RECEIVED: &str = "roadstead_upstream_bytes_received_total";
    let bar = progress(image.bytes() * clients as u64);
    let before = edge.metric(RECEIVED).await?;
    let begin = Instant::now();
    let tasks = (0..clients).map(|_| {
        let (registry, image, bar) = (Registry::new(edge.address()), Arc::clone(image), bar.clone());
        tokio::spawn(async move { registry.pull(&image, &bar).await })
    });
    let pulls = timeout(STEP_DEADLINE, try_join_all(tasks)).await.context("the pull does not end")??;
    let pulls = pulls.into_iter().collect::<Result<Vec<_>>>()?;
    let time = begin.elapsed();
    bar.finish_and_clear();
    Ok(Measured { pulls, time, upstream: edge.metric(RECEIVED).await? - before })
}

/// Enough of a digest to recognise it.
fn short(digest: &str) -> &str {
    digest.get(.."sha256:".len() + 12).unwrap_or(digest)
}
