//! A primary, its replica, and the death of the primary.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::*;
use crate::{
    database::{
        Database,
        testing::{as_postgres, execute, free_port, postgres_programs},
    },
    settings::DatabaseSettings,
};

/// How long a step of the cluster may take.
const STEP: Duration = Duration::from_secs(60);

#[test]
fn each_host_gets_a_url_of_its_own() {
    let hosts = Hosts::of("postgres://u:p%40x@h1:5432,h2:5433/db?sslmode=disable").expect("valid");
    assert_eq!(
        hosts.urls,
        ["postgres://u:p%40x@h1:5432/db?sslmode=disable", "postgres://u:p%40x@h2:5433/db?sslmode=disable"]
    );
    assert_eq!(Hosts::of("postgres://h/db").expect("valid").urls, ["postgres://h/db"]);
    assert!(Hosts::of("postgres").is_err());
}

/// Runs one server until its standard input ends, and kills it without a warning then.
const SERVER: &str = r#"
trap '' INT TERM
cd /tmp
"$1/postgres" -D "$2" -c listen_addresses=127.0.0.1 -c port="$3" -c unix_socket_directories= -c fsync=off \
    >>"$2.log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -9 $server
wait $server
"#;

fn server(data: &Path, port: u16) -> Child {
    as_postgres("sh")
        .args(["-c", SERVER, "sh"])
        .arg(postgres_programs())
        .arg(data)
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .spawn()
        .expect("PostgreSQL starts")
}

fn run(command: &mut Command) {
    let output = command.current_dir("/tmp").output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The directory of the clusters, which the user that PostgreSQL runs as owns.
struct Place(std::path::PathBuf);

impl Place {
    fn new() -> Self {
        let made =
            as_postgres("mktemp").args(["-d", "/tmp/roadstead-postgres.XXXXXX"]).output().expect("mktemp");
        Self(String::from_utf8(made.stdout).expect("a path").trim().into())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = as_postgres("rm").arg("-rf").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_follows_a_failover_by_itself() {
    let place = Place::new();
    let programs = postgres_programs();
    let (old, new) = (place.0.join("a"), place.0.join("b"));
    let ports = [free_port(), free_port()];
    run(as_postgres(programs.join("initdb")).arg("-D").arg(&old).args([
        "-U",
        "test",
        "-A",
        "trust",
        "--no-sync",
    ]));
    let mut primary = server(&old, ports[0]);
    execute(&format!("postgres://test@127.0.0.1:{}/postgres", ports[0]), "SELECT 1".into()).await;
    let from = ["-h", "127.0.0.1", "-U", "test", "-R", "-X", "stream", "--checkpoint=fast", "--no-sync"];
    let port = ports[0].to_string();
    run(as_postgres(programs.join("pg_basebackup")).args(from).args(["-p", &port, "-D"]).arg(&new));
    let mut replica = server(&new, ports[1]);
    execute(&format!("postgres://test@127.0.0.1:{}/postgres", ports[1]), "SELECT 1".into()).await;

    // The replica is named first: it must not be taken for the primary.
    let url = format!("postgres://test@127.0.0.1:{},127.0.0.1:{}/postgres", ports[1], ports[0]);
    let settings = DatabaseSettings {
        url: Some(url),
        acquire_timeout: oci::settings::Span(Duration::from_secs(5)),
        ..DatabaseSettings::default()
    };
    let database = Database::open(&settings, &place.0).await.expect("opens");
    let stop = CancellationToken::new();
    let following = tokio::spawn({
        let (database, stop) = (database.clone(), stop.clone());
        async move { database.follow_primary(stop).await }
    });
    let holder = |name: &'static str| database.take_lease("test", name, Duration::ZERO);
    assert!(holder("before").await.expect("the primary takes writes"));

    drop(primary.stdin.take());
    primary.wait().expect("the primary is dead");
    run(as_postgres(programs.join("pg_ctl")).arg("-D").arg(&new).args(["-w", "promote"]));
    let deadline = Instant::now() + STEP;
    let mut failures = 0;
    while let Err(error) = holder("after").await {
        failures += 1;
        assert!(Instant::now() < deadline, "the node never found the new primary: {error}");
    }
    assert!(database.check().await.is_ok(), "after {failures} failures");
    stop.cancel();
    following.await.expect("it ends");
    drop(replica.stdin.take());
    replica.wait().expect("ended");
}
