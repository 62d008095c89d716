//! Garbage collection, alone and while others push.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use super::*;

/// Collects with no grace and this quarantine.
async fn collect(database: &Database, quarantine: Duration) -> u64 {
    database.quarantine(Duration::ZERO).await.expect("answered");
    database.unlink_quarantined(quarantine).await.expect("answered");
    database.remove_blobs(Duration::ZERO).await.expect("answered")
}

/// Until the clock has gone on, so that "before now" includes what was just done.
async fn collect_until(database: &Database, removed: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut count = 0;
    while count < removed {
        count += collect(database, Duration::ZERO).await;
        assert!(Instant::now() < deadline, "{count} of {removed} blobs were removed");
    }
}

#[tokio::test]
async fn what_no_manifest_needs_goes_and_the_rest_stays() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let (a, b) = (repository("a"), repository("b"));
        let needed = push_blob(&database, &a, b"needed").await;
        let loose = push_blob(&database, &a, b"loose").await;
        let shared = push_blob(&database, &a, b"shared").await;
        push_blob(&database, &b, b"shared").await;
        let (manifest, _) = push_manifest(&database, &a, &[(&needed, 6)], "v1").await;
        push_manifest(&database, &b, &[(&shared, 6)], "v1").await;
        assert_eq!(collect(&database, Duration::from_secs(3600)).await, 0);
        collect_until(&database, 1).await;
        let size = |name, digest| database.blob_size(name, digest);
        assert_eq!(size(&a, &loose).await.expect("answered"), None);
        assert_eq!(size(&a, &shared).await.expect("answered"), None, "nothing in `a` needs it");
        assert_eq!(size(&b, &shared).await.expect("answered"), Some(6));
        assert_eq!(size(&a, &needed).await.expect("answered"), Some(6));
        assert!(database.delete_manifest(&a, &manifest).await.expect("answered"));
        collect_until(&database, 1).await;
        assert_eq!(size(&a, &needed).await.expect("answered"), None);
        // Of `shared` one of two objects was never used; those of the removed blobs follow it.
        assert_eq!(database.garbage(9).await.expect("answered").len(), 3);
    }
}

#[tokio::test]
async fn a_blob_in_quarantine_is_hidden_and_comes_back() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let name = repository("team/app");
        let hour = Duration::from_secs(3600);
        for revive in ["manifest", "push"] {
            let digest = push_blob(&database, &name, revive.as_bytes()).await;
            let deadline = Instant::now() + Duration::from_secs(10);
            while database.blob_size(&name, &digest).await.expect("answered").is_some() {
                collect(&database, hour).await;
                assert!(Instant::now() < deadline, "the blob was never hidden");
            }
            assert_eq!(database.unneeded_links(hour).await.expect("answered").taken, 0);
            match revive {
                "manifest" => {
                    let (_, put) = push_manifest(&database, &name, &[(&digest, revive.len())], "v1").await;
                    assert_eq!(put, Put::Stored, "the client was told that the blob is there");
                }
                _ => assert!(database.link_blob(&name, &digest, None).await.expect("answered")),
            }
            assert!(database.blob_size(&name, &digest).await.expect("answered").is_some(), "{revive}");
        }
    }
}

#[tokio::test]
async fn what_would_be_freed_is_told_by_repository() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        push_blob(&database, &repository("a"), b"12345").await;
        push_blob(&database, &repository("a"), b"123").await;
        let kept = push_blob(&database, &repository("b"), b"1").await;
        push_manifest(&database, &repository("b"), &[(&kept, 1)], "v1").await;
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut found = Vec::new();
        while found.is_empty() && Instant::now() < deadline {
            found = database.reclaimable(Duration::ZERO).await.expect("answered");
        }
        assert_eq!(found, [crate::Reclaimable { repository: "a".into(), blobs: 2, bytes: 8 }]);
        assert_eq!(database.reclaimable(Duration::from_secs(3600)).await.expect("answered"), []);
    }
}

/// The collector runs without any grace; a push that loses a blob before its manifest names it has to push again, as a
/// client does. What must never happen: a manifest that was stored and lacks a blob, or a blob whose object is garbage.
#[tokio::test(flavor = "multi_thread")]
async fn pushing_and_collecting_at_the_same_time_loses_nothing_that_was_acknowledged() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let collector = {
            let (database, stop) = (database.clone(), stop.clone());
            tokio::spawn(async move {
                let deadline = Instant::now() + Duration::from_secs(120);
                let mut removed = 0;
                while !stop.load(Ordering::Relaxed) || removed == 0 {
                    removed += collect(&database, Duration::ZERO).await;
                    assert!(Instant::now() < deadline, "collected for too long, and removed {removed} blobs");
                }
                removed
            })
        };
        let mut pushers = tokio::task::JoinSet::new();
        for pusher in 0..6 {
            let database = database.clone();
            pushers.spawn(async move { push_images(&database, pusher).await });
        }
        pushers.join_all().await;
        // In case that all there was is needed: the collector ends when it has removed something.
        push_blob(&database, &repository("loose"), b"loose").await;
        stop.store(true, Ordering::Relaxed);
        assert!(collector.await.expect("the collector never fails") > 0, "it had work");
        let broken: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM blob_part p JOIN object o ON o.name = p.object WHERE o.state <> 'kept'",
        )
        .fetch_one(&database.read)
        .await
        .expect("answered");
        assert_eq!(broken, 0, "a blob names an object that is being deleted");
    }
}

async fn push_images(database: &Database, pusher: usize) {
    let name = repository(&format!("team/app{}", pusher % 2));
    for round in 0..15 {
        let bytes = format!("layer {}", round % 5).into_bytes();
        let tag = format!("v{pusher}-{round}");
        let deadline = Instant::now() + Duration::from_secs(60);
        let digest = loop {
            let digest = push_blob(database, &name, &bytes).await;
            let (manifest, put) = push_manifest(database, &name, &[(&digest, bytes.len())], &tag).await;
            match put {
                Put::Stored => {
                    let size = database.blob_size(&name, &digest).await.expect("answered");
                    assert_eq!(size, Some(bytes.len() as u64), "stored, and a blob is missing");
                    break manifest;
                }
                Put::Missing(_) => assert!(Instant::now() < deadline, "no push ever succeeded"),
                Put::WrongSize { .. } => panic!("sizes never change"),
            }
        };
        if round % 3 == 0 {
            database.delete_manifest(&name, &digest).await.expect("answered");
        }
    }
}
