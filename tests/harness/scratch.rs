//! Directories for tests: one root a test process, one directory a use, nothing left behind.
//!
//! A `Scratch` unmounts and removes itself when it is dropped. What a killed or aborted test process leaves is removed
//! by a guard process that waits for it to end.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Waits until the pipe from the test process is closed, which is when that process ends, then removes the root.
/// Engines mount file systems below their directories, so those go first; processes that were told to die with the
/// test may still write for a moment, so removal is tried for a while.
const GUARD: &str = r#"
cat >/dev/null
for _ in $(seq 100); do
    grep -o " $1/[^ ]*" /proc/mounts | sort -r | while read -r m; do umount -l "$m"; done
    rm -rf "$1" && exit
    sleep 0.1
done 2>/dev/null
"#;

struct Root {
    path: PathBuf,
    _guard: Child,
}

/// A directory that is removed, with all that is mounted in it, when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a directory whose name begins with `purpose`; everybody may enter it (PostgreSQL is not run by root).
    pub(crate) fn new(purpose: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = root().join(format!("{purpose}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).expect("a scratch directory can be made");
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A path below this directory, as text for a command line.
    pub(crate) fn text(&self, name: &str) -> String {
        self.join(name).to_str().expect("scratch paths are ASCII").to_owned()
    }

    /// Makes a directory below this one.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).expect("a directory can be made");
        path
    }

    /// Writes a file below this directory and tells its path, as text for a command line.
    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("it has a parent")).expect("a directory can be made");
        fs::write(&path, contents).expect("a scratch file can be written");
        self.text(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for mount in mounts_below(&self.path) {
            let _ = Command::new("umount").arg("-l").arg(mount).stderr(Stdio::null()).status();
        }
        // What cannot be removed now, the guard removes at the end.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Mount points below a directory, innermost first.
fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut below: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(PathBuf::from)
        .filter(|mount| mount.starts_with(path))
        .collect();
    below.sort();
    below.reverse();
    below
}

fn root() -> &'static Path {
    static ROOT: OnceLock<Root> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("roadstead-tests-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        let guard = Command::new("setsid")
            .args(["bash", "-c", GUARD, "guard"])
            .arg(&path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("bash and setsid are on every Debian");
        Root { path, _guard: guard }
    });
    &root.path
}
