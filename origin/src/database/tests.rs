//! One suite over both databases.

mod collecting;
mod identity;
mod pushing;

use std::time::Duration;

use bytes::Bytes;
use oci::{
    digest::{Algorithm, Digest, Hasher},
    manifest::Manifest,
    name::{Reference, RepositoryName, Tag},
};
use serde_json::json;

use super::{
    Database, Error,
    manifests::{NewManifest, Put},
    objects::{ObjectName, Part},
    testing::TestDatabase,
    uploads::{Change, Completion},
};
use crate::{routes::gate::Visible, settings::DatabaseSettings};

pub(super) fn repository(name: &str) -> RepositoryName {
    name.parse().expect("a name")
}

/// Pushes a blob of these bytes the way an upload in one request does.
pub(super) async fn push_blob(database: &Database, name: &RepositoryName, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    let part = Part { object: ObjectName::new(), size: bytes.len() as u64 };
    database.begin_object(&part.object).await.expect("begun");
    let completion =
        Completion { repository: name, upload: None, last: Some(&part), digest: &digest, size: part.size };
    assert_eq!(database.complete(&completion).await.expect("completed"), Change::Done);
    digest
}

/// Pushes an image manifest with these layers, and says how it went.
pub(super) async fn push_manifest(
    database: &Database,
    name: &RepositoryName,
    layers: &[(&Digest, usize)],
    tag: &str,
) -> (Digest, Put) {
    let descriptors: Vec<_> = layers
        .iter()
        .map(|(digest, size)| json!({"mediaType": "a/b", "digest": digest, "size": size}))
        .collect();
    let document = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "layers": descriptors, "annotations": {"tag": tag},
    });
    let bytes = Bytes::from(document.to_string());
    let manifest = Manifest::parse(&bytes, None).expect("a manifest");
    let digest = Digest::sha256(&bytes);
    let tags: [Tag; 1] = [tag.parse().expect("a tag")];
    let new =
        NewManifest { repository: name, digest: &digest, bytes: &bytes, manifest: &manifest, tags: &tags };
    let put = database.put_manifest(&new).await.expect("answered");
    (digest, put)
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_starters_at_once_migrate_one_database() {
    for test in TestDatabase::both().await {
        let mut starters = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (settings, dir) = (test.settings.clone(), test.path().to_owned());
            starters.spawn(async move { Database::open(&settings, &dir).await });
        }
        for database in starters.join_all().await {
            let database = database.expect("every starter gets a database");
            assert_eq!(
                database.repositories("", 10, &Visible::All).await.expect("usable"),
                Vec::<String>::new()
            );
        }
    }
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_in_a_sentence() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        sqlx::query("INSERT INTO schema_version (version) VALUES (99)")
            .execute(&database.write)
            .await
            .expect("inserted");
        let error = Database::open(&test.settings, test.path()).await.expect_err("refused");
        assert!(matches!(error, Error::Newer { found: 99, known: 2 }), "{error}");
        assert!(error.to_string().contains("newer program"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_share_one_connection() {
    for mut test in TestDatabase::both().await {
        test.settings = DatabaseSettings { connections: 1, ..test.settings };
        let database = test.open().await;
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..200 {
            let database = database.clone();
            clients.spawn(async move {
                let name = repository(&format!("team/app{}", client % 7));
                let bytes = format!("layer {}", client % 50).into_bytes();
                let digest = push_blob(&database, &name, &bytes).await;
                let tag = format!("v{client}");
                let (manifest, put) = push_manifest(&database, &name, &[(&digest, bytes.len())], &tag).await;
                assert_eq!(put, Put::Stored);
                let found = database.manifest(&name, &Reference::Tag(tag.parse().expect("tag"))).await;
                assert_eq!(found.expect("answered").expect("there").digest, manifest);
            });
        }
        let done = tokio::time::timeout(Duration::from_secs(120), clients.join_all()).await;
        assert_eq!(done.expect("nobody waits for ever").len(), 200);
        database.check().await.expect("the pool still answers");
    }
}

#[tokio::test]
async fn listings_are_in_bytewise_order_and_go_on_behind_the_last() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let name = repository("team/app");
        assert_eq!(database.tags(&name, "", 10).await.expect("answered"), None);
        for tag in ["b", "a", "B", "_x", "a-1", "A1", "a.1", "10", "9"] {
            push_manifest(&database, &name, &[], tag).await;
        }
        let all = database.tags(&name, "", 100).await.expect("answered").expect("known");
        assert_eq!(all, ["10", "9", "A1", "B", "_x", "a", "a-1", "a.1", "b"]);
        let behind = database.tags(&name, "B", 3).await.expect("answered").expect("known");
        assert_eq!(behind, ["_x", "a", "a-1"]);
        assert_eq!(database.repositories("", 10, &Visible::All).await.expect("answered"), ["team/app"]);
        assert_eq!(
            database.repositories("team/app", 10, &Visible::All).await.expect("answered"),
            Vec::<String>::new()
        );
    }
}

#[tokio::test]
async fn a_lease_has_one_holder_until_it_runs_out() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let hour = Duration::from_secs(3600);
        assert!(database.take_lease("gc", "a", hour).await.expect("answered"));
        assert!(!database.take_lease("gc", "b", hour).await.expect("answered"));
        assert!(database.take_lease("gc", "a", Duration::ZERO).await.expect("renewed"));
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !database.take_lease("gc", "b", hour).await.expect("answered") {
            assert!(std::time::Instant::now() < deadline, "the lease never ran out");
        }
        database.release_lease("gc", "b").await.expect("released");
        assert!(database.take_lease("gc", "a", hour).await.expect("answered"));
    }
}
