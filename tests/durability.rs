//! What is acknowledged is on disk: the order of system calls, as strace saw them, and not the name of a setting.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use crate::harness::{
    content::blob,
    image::{Image, Typed, push_blob, push_manifest},
    node::{Node, Plan},
    noise::Noise,
};

/// Large enough to be told from everything else that a node writes.
const BYTES: usize = 3 << 20;

#[test]
fn an_origin_answers_201_when_file_directory_and_row_are_on_disk() {
    let origin = traced(Plan::origin());
    let layer = layer("an_origin_answers_201");
    push_blob(origin.address, "team/app", &layer);
    let calls = calls(&origin);
    let answer = position(&calls, 0, "the answer 201", |call| call.sends("HTTP/1.1 201"));
    let stored = stored(&calls[..answer]);
    position(&calls[..answer], stored, "the commit's sync before the answer", |call| call.syncs(is_database));
}

#[test]
fn an_origin_answers_201_to_a_manifest_when_its_row_is_on_disk() {
    let origin = traced(Plan::origin());
    let image = Image::make("an_origin_answers_201_to_a_manifest", 1, 10_000);
    image.blobs.iter().for_each(|blob| push_blob(origin.address, "team/app", blob));
    let before = calls(&origin).len();
    push_manifest(origin.address, "team/app", "latest", &image.manifest);
    let calls = calls(&origin);
    let answer = position(&calls, before, "the answer 201", |call| call.sends("HTTP/1.1 201"));
    let written =
        calls[..answer].iter().rposition(|call| call.writes(is_database)).expect("a row was written");
    position(&calls[..answer], written, "the commit's sync before the answer", |call| {
        call.syncs(is_database)
    });
}

#[test]
fn an_edge_keeps_a_blob_when_file_and_directory_are_on_disk() {
    let origin = Plan::origin().start();
    let layer = layer("an_edge_keeps_a_blob");
    push_blob(origin.address, "team/app", &layer);
    let edge = traced(Plan::edge(origin.address));
    blob(edge.address, "team/app", &layer.digest());
    // The client has its bytes before the file is kept.
    edge.finishes_downloads();
    stored(&calls(&edge));
}

/// The place of the directory's sync in: write of the blob, sync of its file, rename, sync of the directory.
fn stored(calls: &[Call]) -> usize {
    let file = largest_file(calls);
    let written = calls
        .iter()
        .rposition(|call| call.writes(|path| path == file))
        .expect("the largest file was written");
    let synced = position(calls, written, "sync of the file", |call| call.syncs(|path| path == file));
    let renamed = position(calls, synced, "rename of the file", |call| {
        call.is_rename() && call.text.contains(&*file.to_string_lossy())
    });
    let directory = calls[renamed].target().parent().expect("a file is in a directory").to_owned();
    position(calls, renamed, "sync of its directory", |call| call.syncs(|path| path == directory))
}

/// The file that took the most bytes: the blob under the name that it has while it is written.
fn largest_file(calls: &[Call]) -> PathBuf {
    let mut sizes: HashMap<PathBuf, usize> = HashMap::new();
    for call in calls.iter().filter(|call| call.writes(|_| true)) {
        *sizes.entry(call.file().expect("it writes to one")).or_default() += call.result;
    }
    let (file, size) = sizes.into_iter().max_by_key(|(_, size)| *size).expect("files were written");
    assert!(size >= BYTES, "the largest file, {}, got {size} bytes", file.display());
    file
}

fn position(calls: &[Call], from: usize, what: &str, matches: impl Fn(&Call) -> bool) -> usize {
    let found = calls[from..].iter().position(matches);
    found
        .map(|at| from + at)
        .unwrap_or_else(|| panic!("no {what} after:\n{}", shown(&calls[from.saturating_sub(3)..])))
}

fn shown(calls: &[Call]) -> String {
    calls
        .iter()
        .take(60)
        .map(|call| format!("{}\n", call.text.chars().take(220).collect::<String>()))
        .collect()
}

fn is_database(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-wal")
}

fn layer(name: &str) -> Typed {
    Typed { media_type: "application/octet-stream".into(), bytes: Noise::new(Noise::seed(name)).bytes(BYTES) }
}

const TRACED: &str = "trace=write,pwrite64,writev,pwritev,pwritev2,sendto,sendmsg,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,link,linkat";

/// A node below strace, which writes beside its data. With `-D` the node itself is our child, and strace a bystander.
fn traced(plan: Plan) -> Node {
    let log = plan.beside("strace").display().to_string();
    plan.below(&["strace", "-D", "-f", "-y", "-s", "64", "-o", &log, "-e", TRACED]).start()
}

/// A system call that has ended.
#[derive(Debug)]
struct Call {
    text: String,
    result: usize,
}

impl Call {
    fn name(&self) -> &str {
        self.text.split('(').next().unwrap_or_default()
    }

    /// The file behind the first argument, by strace's `-y`.
    fn file(&self) -> Option<PathBuf> {
        let path = self.text.split('<').nth(1)?.split('>').next()?;
        path.starts_with('/').then(|| PathBuf::from(path.trim_end_matches(" (deleted)")))
    }

    fn writes(&self, which: impl Fn(&Path) -> bool) -> bool {
        self.name().contains("write") && self.file().is_some_and(|path| which(&path))
    }

    fn syncs(&self, which: impl Fn(&Path) -> bool) -> bool {
        matches!(self.name(), "fsync" | "fdatasync") && self.file().is_some_and(|path| which(&path))
    }

    fn sends(&self, what: &str) -> bool {
        self.file().is_none() && self.text.contains(what)
    }

    fn is_rename(&self) -> bool {
        self.name().starts_with("rename") || self.name().starts_with("link")
    }

    /// The new name of a rename.
    fn target(&self) -> PathBuf {
        let quoted: Vec<&str> = self.text.split('"').skip(1).step_by(2).collect();
        PathBuf::from(quoted.last().expect("a rename has names"))
    }
}

/// All calls so far. One that sends stands where it began, every other where it ended, so that an order found here is
/// one that the disk saw.
fn calls(node: &Node) -> Vec<Call> {
    let log = std::fs::read_to_string(node.plan().beside("strace")).expect("strace writes its log");
    let mut unfinished: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some((begun, _)) = rest.split_once(" <unfinished ...>") {
            unfinished.insert(thread, begun);
            if begun.contains("HTTP/1.1 ") {
                calls.push(Call { text: begun.to_owned(), result: 0 });
            }
        } else if rest.starts_with("<... ") {
            let end = rest.split_once("resumed>").map_or("", |(_, end)| end);
            let begun = unfinished.remove(thread).unwrap_or_default();
            if !begun.contains("HTTP/1.1 ") {
                calls.push(call(format!("{begun}{end}")));
            }
        } else {
            calls.push(call(rest.to_owned()));
        }
    }
    calls
}

fn call(text: String) -> Call {
    let result =
        text.rsplit(" = ").next().and_then(|result| result.split(' ').next()?.parse().ok()).unwrap_or(0);
    Call { text, result }
}
