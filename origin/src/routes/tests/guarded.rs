//! An origin that asks who is there, with everybody there that the matrix knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use gossip::access::{ContentAction, RobotName, Role, Visibility};
use oci::http::Client;

use super::*;
use crate::{
    database::{
        accounts::{Admission, Changed, Expected, PasswordHash},
        robots::NewRobot,
        users::NewUser,
    },
    identity::{Identity, secret},
    settings::{AuthSettings, Secret},
};

const ANY: Expected = Expected(None);
pub(crate) const PASSWORD: &str = "a password";
/// Where requests come from, unless a test says otherwise.
pub(crate) const NEAR: [u8; 4] = [127, 0, 0, 1];

/// An origin that asks who is there, with a private project `team`, a public one `open`, and everybody there is.
pub(crate) struct Guarded {
    pub(crate) origin: Arc<Origin>,
    _dir: TempDir,
    /// By robot name.
    secrets: BTreeMap<&'static str, String>,
}

/// What a request shows.
#[derive(Clone, Debug)]
pub(crate) enum Show {
    Nothing,
    Basic(String, String),
    Bearer(String),
}

impl Show {
    pub(crate) fn header(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Basic(name, secret) => {
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{secret}"))))
            }
            Self::Bearer(token) => Some(format!("Bearer {token}")),
        }
    }
}

impl Guarded {
    pub(crate) async fn new() -> Self {
        Self::speaking(Scheme::Http).await
    }

    pub(crate) async fn speaking(scheme: Scheme) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let auth = AuthSettings {
            admin_password: Some(Secret::from(PASSWORD.to_owned())),
            ..AuthSettings::default()
        };
        let settings = Settings { auth, ..Settings::default() };
        let mut metrics = prometheus_client::registry::Registry::default();
        let reach = Reach { openness: Openness::Asking, scheme };
        let origin = Origin::start(settings, dir.path(), "test", reach, &mut metrics).await;
        let mut site = Self { origin: origin.expect("starts"), _dir: dir, secrets: BTreeMap::new() };
        site.fill().await;
        site
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.origin.registry.gate.identity
    }

    async fn fill(&mut self) {
        let database = self.origin.registry.database.clone();
        for (name, visibility) in [("team", Visibility::Private), ("open", Visibility::Public)] {
            let name = name.parse().expect("a name");
            database.create_project(&name, visibility, &[]).await.expect("made");
        }
        let password = Secret::from(PASSWORD.to_owned());
        // One hash for all: the test is about what they may.
        let hash = self.identity().passwords.hash(&password, None).await.expect("hashed");
        let users = ["auditor", "guest", "developer", "maintainer", "owner", "outsider", "disabled"];
        for name in users {
            add_user(&database, name, &hash).await;
            let Ok(role) = name.parse::<Role>() else { continue };
            for project in ["team", "open"] {
                let project = project.parse().expect("a name");
                let set = database.set_member(&project, name, role, ANY).await;
                assert_eq!(set.expect("answered"), Changed::Done(()));
            }
        }
        database.admit("disabled", Admission::Out, ANY).await.expect("answered");
        for (name, actions, network) in [
            ("team+all", &["pull", "push", "delete"][..], None),
            ("team+push", &["push"], None),
            ("open+all", &["pull", "push", "delete"], None),
            ("system+pull", &["pull"], None),
            ("team+far", &["pull", "push", "delete"], Some("192.0.2.0/24")),
        ] {
            let robot: RobotName = name.parse().expect("a name");
            let actions: BTreeSet<ContentAction> =
                ContentAction::ALL.into_iter().filter(|action| actions.contains(&action.as_str())).collect();
            let networks: Vec<_> =
                network.iter().map(|text: &&str| text.parse().expect("a network")).collect();
            let (shown, hash) = secret::for_robot();
            let new = NewRobot {
                name: &robot,
                secret: &hash,
                actions: &actions,
                networks: &networks,
                expires_at: None,
            };
            assert_eq!(database.create_robot(&new).await.expect("answered"), Changed::Done(()));
            self.secrets.insert(name, shown.expose().to_owned());
        }
        self.identity().directory.forget();
        for project in ["team", "open"] {
            self.push(project).await;
        }
    }

    /// Puts an image of one layer into `project/app`, as the admin.
    async fn push(&self, project: &str) {
        let admin = self.basic("admin");
        for blob in [b"{}".as_slice(), b"layer"] {
            let path = format!("/v2/{project}/app/blobs/uploads/?digest={}", Digest::sha256(blob));
            assert_eq!(self.ask("POST", &path, &admin, blob).await.status, 201);
        }
        let manifest = image(b"{}", &[b"layer"], None);
        let path = format!("/v2/{project}/app/manifests/v1");
        assert_eq!(self.ask("PUT", &path, &admin, &manifest).await.status, 201);
    }

    pub(crate) fn basic(&self, name: &str) -> Show {
        let secret = self.secrets.get(name).map_or(PASSWORD, String::as_str);
        Show::Basic(name.to_owned(), secret.to_owned())
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, show: &Show, body: &[u8]) -> Answer {
        self.ask_from(NEAR, method, path, show, body).await
    }

    pub(crate) async fn ask_from(
        &self,
        from: [u8; 4],
        method: &str,
        path: &str,
        show: &Show,
        body: &[u8],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "registry.example:5000");
        if let Some(authorization) = show.header() {
            request = request.header("authorization", authorization);
        }
        let remote = SocketAddr::from((from, 1234));
        let request = request
            .extension(Client { remote, local: remote })
            .body(RequestBody::from(Bytes::copy_from_slice(body)))
            .expect("a request");
        let (head, body): (_, Body) = self.origin.handle(request).await.into_parts();
        let body = collect(body, 64 << 20).await.expect("the body is whole");
        Answer { status: head.status.as_u16(), head: Response::from_parts(head, ()), body }
    }

    /// A token for everything in these projects, as far as it is granted.
    pub(crate) async fn token(&self, show: &Show, projects: &[&str]) -> Show {
        let scopes: String = projects
            .iter()
            .map(|project| format!("&scope=repository:{project}/app:pull,push,delete"))
            .collect();
        let path = format!("/token?service=roadstead&scope=registry:catalog:*{scopes}");
        let answer = self.ask("GET", &path, show, b"").await;
        assert_eq!(answer.status, 200, "{show:?} {answer:?}");
        let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(document["token"], document["access_token"]);
        assert!(document["expires_in"].as_u64().expect("a number") >= 60);
        Show::Bearer(document["token"].as_str().expect("a token").to_owned())
    }
}

async fn add_user(database: &crate::database::Database, name: &str, password: &PasswordHash) {
    let new = NewUser { name, email: None, password, admin: false, auditor: name == "auditor" };
    assert_eq!(database.create_user(&new).await.expect("answered"), Changed::Done(()));
}
