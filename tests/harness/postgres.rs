//! A throw-away PostgreSQL for the test process, and a new database in it for each use.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    process::{Server, dies_with_caller, program, run},
    scratch::Scratch,
};

/// Debian's user for it; PostgreSQL refuses to run as root.
const USER: &str = "postgres";

struct Cluster {
    address: SocketAddr,
    _server: Server,
    _scratch: Scratch,
}

/// Makes an empty database and gives its URL.
pub(crate) fn new_database() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("registry_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let address = cluster().address;
    run(&mut psql(address, &format!("create database {name}")));
    format!("postgres://registry@{address}/{name}")
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let scratch = Scratch::new("postgres");
        run(program("chown").arg(format!("{USER}:")).arg(scratch.path()));
        let (data, log) = (scratch.text("data"), scratch.text("log"));
        let initdb =
            ["-D", &data, "-U", "registry", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
        run(as_user(&mut program("setpriv")).arg(binaries().join("initdb")).args(initdb).current_dir("/"));
        let address = free_address();
        let mut command = dies_with_caller("setpriv");
        as_user(&mut command).arg(binaries().join("postgres")).args(["-D", &data]);
        command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string(), "-k", ""]);
        command.args(["-c", "max_connections=200"]).current_dir("/");
        let mut server = Server::start_for_all("postgres", log.as_ref(), command);
        server.serves_when(|| psql(address, "select 1").output().is_ok_and(|output| output.status.success()));
        Cluster { address, _server: server, _scratch: scratch }
    })
}

fn psql(address: SocketAddr, statement: &str) -> Command {
    let mut command = program("psql");
    command.args(["-qXAt", "-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    command.args(["-U", "registry", "-d", "postgres", "-c", statement]);
    command
}

/// Lets a `setpriv` run what follows as that user. Death with the caller is asked for after the change of user, which
/// would forget it.
fn as_user(setpriv: &mut Command) -> &mut Command {
    setpriv.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--pdeathsig", "KILL", "--"])
}

/// The newest server that is installed.
fn binaries() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    let newest = found.filter(|path| path.join("initdb").exists()).max();
    newest.expect("no PostgreSQL server is installed: run tests/setup")
}

/// An address of 127.0.0.1 that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("it is bound")
}
