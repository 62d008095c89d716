//! Databases for tests: a SQLite file, and a database of a throw-away PostgreSQL that lives as long as the test process.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr as _,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions as _, Executor as _, any::AnyConnectOptions};
use tempfile::TempDir;

use super::Database;
use crate::settings::DatabaseSettings;

/// Runs a cluster until its standard input ends, which the system sees to when the test process is gone. The collation
/// is that of a language, not bytewise, so that a statement that relies on bytes and does not say so fails.
const CLUSTER: &str = r#"
set -e
trap '' INT TERM
bin=$1 port=$2
dir=$(mktemp -d /tmp/roadstead-postgres.XXXXXX)
cd "$dir"
"$bin/initdb" -D "$dir/data" -U test -A trust -E UTF8 --locale-provider=icu --icu-locale=en-US --locale=C.UTF-8 \
    --no-sync >"$dir/log" 2>&1
"$bin/postgres" -D "$dir/data" -c listen_addresses=127.0.0.1 -c port="$port" -c unix_socket_directories= \
    -c fsync=off -c max_connections=300 >>"$dir/log" 2>&1 </dev/null &
server=$!
cat >/dev/null || true
kill -QUIT $server
wait $server || true
rm -rf "$dir"
"#;

/// How long a cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

static SHARED: LazyLock<Cluster> = LazyLock::new(Cluster::start);
static NEXT: AtomicU32 = AtomicU32::new(0);

struct Cluster {
    port: u16,
    /// Its standard input is held open; see [`CLUSTER`].
    _process: Child,
}

impl Cluster {
    fn start() -> Self {
        let port = free_port();
        let process = as_postgres("sh")
            .args(["-c", CLUSTER, "sh"])
            .arg(postgres_programs())
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .spawn()
            .expect("PostgreSQL starts: install Debian's package postgresql");
        Self { port, _process: process }
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://test@127.0.0.1:{}/{database}", self.port)
    }
}

/// A port that nobody uses now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("bound").port()
}

/// PostgreSQL refuses to run as root.
pub(crate) fn as_postgres(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let id = Command::new("id").arg("-u").output().expect("id");
    if id.stdout != b"0\n" {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

/// The newest of Debian's versions.
pub(crate) fn postgres_programs() -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").expect("Debian's package postgresql is installed");
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest =
        versions.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.join("bin/initdb").exists());
    newest.max_by_key(number).expect("a version of PostgreSQL").join("bin")
}

/// A database of its own for one test.
pub(crate) struct TestDatabase {
    pub(crate) settings: DatabaseSettings,
    pub(crate) dir: TempDir,
}

impl TestDatabase {
    pub(crate) fn sqlite() -> Self {
        Self { settings: DatabaseSettings::default(), dir: tempfile::tempdir().expect("temporary directory") }
    }

    pub(crate) async fn postgres() -> Self {
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let cluster = tokio::task::spawn_blocking(|| &*SHARED).await.expect("the cluster starts");
        execute(&cluster.url("postgres"), format!("CREATE DATABASE {name}")).await;
        let settings = DatabaseSettings { url: Some(cluster.url(&name)), ..DatabaseSettings::default() };
        Self { settings, dir: tempfile::tempdir().expect("temporary directory") }
    }

    pub(crate) async fn both() -> [Self; 2] {
        [Self::sqlite(), Self::postgres().await]
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) async fn open(&self) -> Database {
        Database::open(&self.settings, self.path()).await.expect("the database opens")
    }
}

/// Runs a statement as soon as the server answers.
pub(crate) async fn execute(url: &str, statement: String) {
    sqlx::any::install_default_drivers();
    let deadline = Instant::now() + PATIENCE;
    let mut connection = loop {
        match AnyConnectOptions::from_str(url).expect("valid").connect().await {
            Ok(connection) => break connection,
            Err(error) if Instant::now() > deadline => panic!("{url} does not answer: {error}"),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    connection.execute(sqlx::AssertSqlSafe(statement)).await.expect("the statement runs");
}
