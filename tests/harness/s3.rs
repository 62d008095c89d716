//! S3 servers for the test process: SeaweedFS for all tests, and a versitygw of one's own where it must be cheap or die.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    http::try_request,
    node::Plan,
    postgres::free_address,
    process::{PATIENCE, Server, cached, dies_with_caller, program, wait_for},
    scratch::Scratch,
};

const ACCESS_KEY: &str = "testak";
const SECRET_KEY: &str = "testsecretkey1";

/// The port of SeaweedFS' S3 side; its other ports follow from the master's, and the address is this process's own.
const SEAWEED_MASTER: u16 = 9640;
const SEAWEED_S3: u16 = SEAWEED_MASTER + 3;

/// A bucket and how to reach it.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    endpoint: SocketAddr,
    name: String,
}

impl Bucket {
    /// A new bucket in the SeaweedFS that all tests share.
    pub(crate) fn seaweedfs() -> Self {
        let endpoint = seaweedfs().endpoint;
        let bucket = Self { endpoint, name: new_name() };
        wait_for("SeaweedFS makes a bucket", PATIENCE, || bucket.make().then_some(()));
        bucket
    }

    /// Points an origin at a directory of its own in this bucket.
    pub(crate) fn store_of(&self, plan: Plan) -> Plan {
        plan.set("storage.url", &format!("s3://{}/registry", self.name))
            .set("storage.endpoint", &format!("http://{}", self.endpoint))
            .set("storage.region", "us-east-1")
            .set("storage.access_key_id", ACCESS_KEY)
            .set("storage.secret_access_key", SECRET_KEY)
            .set("storage.allow_http", "true")
    }

    /// Makes the bucket; curl signs the request.
    fn make(&self) -> bool {
        let mut command = program("curl");
        command.args(["-s", "-f", "-X", "PUT", "--aws-sigv4", "aws:amz:us-east-1:s3"]);
        command.args([
            "--user",
            &format!("{ACCESS_KEY}:{SECRET_KEY}"),
            &format!("http://{}/{}", self.endpoint, self.name),
        ]);
        command.output().is_ok_and(|output| output.status.success())
    }
}

/// A versitygw: S3 over a directory. It starts in no time and survives being killed.
#[derive(Debug)]
pub(crate) struct Versitygw {
    pub(crate) bucket: Bucket,
    _server: Server,
    _scratch: Scratch,
}

impl Versitygw {
    pub(crate) fn start() -> Self {
        let scratch = Scratch::new("versitygw");
        let bucket = Bucket { endpoint: free_address(), name: new_name() };
        let root = scratch.directory("root");
        scratch.directory(&format!("root/{}", bucket.name));
        let mut command = dies_with_caller(cached("versitygw"));
        command.args(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--region", "us-east-1"]);
        command.args(["--port", &bucket.endpoint.to_string(), "posix"]).arg(root);
        let mut server = Server::start("versitygw", &scratch.join("log"), &mut command);
        server.serves_when(|| try_request(bucket.endpoint, "GET", "/", &[], &[]).is_ok());
        Self { bucket, _server: server, _scratch: scratch }
    }
}

struct Seaweedfs {
    endpoint: SocketAddr,
    _server: Server,
    _scratch: Scratch,
}

fn seaweedfs() -> &'static Seaweedfs {
    static SEAWEEDFS: OnceLock<Seaweedfs> = OnceLock::new();
    SEAWEEDFS.get_or_init(|| {
        let scratch = Scratch::new("seaweedfs");
        // Its ports are fixed in number and in their distances, so it gets a loopback address of its own.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let endpoint = SocketAddr::from(([127, 77, high, low.max(1)], SEAWEED_S3));
        let mut server = Server::start_for_all("weed", &scratch.join("log"), weed(endpoint, &scratch));
        server.serves_when(|| {
            try_request(endpoint, "GET", "/", &[], &[]).is_ok_and(|answer| answer.status == 403)
        });
        Seaweedfs { endpoint, _server: server, _scratch: scratch }
    })
}

fn weed(endpoint: SocketAddr, scratch: &Scratch) -> Command {
    let identities = serde_json::json!({"identities": [{
        "name": "tests", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]});
    let config = scratch.file("s3.json", identities.to_string());
    let (data, logs): (_, &Path) = (scratch.directory("data"), &scratch.directory("logs"));
    let ip = endpoint.ip();
    let mut command = dies_with_caller(cached("weed"));
    command.arg(format!("-logdir={}", logs.display())).arg("server").arg(format!("-dir={}", data.display()));
    command
        .arg(format!("-ip={ip}"))
        .arg(format!("-ip.bind={ip}"))
        .arg(format!("-master.port={SEAWEED_MASTER}"));
    command
        .arg(format!("-volume.port={}", SEAWEED_MASTER + 1))
        .args(["-volume.max=50", "-master.volumeSizeLimitMB=128"]);
    command
        .arg("-filer")
        .arg(format!("-filer.port={}", SEAWEED_MASTER + 2))
        .arg("-s3")
        .arg(format!("-s3.port={SEAWEED_S3}"));
    command
        .args(["-s3.port.iceberg=0", &format!("-s3.config={config}")])
        .env("TMPDIR", logs)
        .current_dir(logs);
    command
}

fn new_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("bucket-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
