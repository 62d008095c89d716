//! Uploads, blobs and manifests.

use super::{
    super::blobs::{MountFrom, Unlinked},
    *,
};

#[tokio::test(flavor = "multi_thread")]
async fn pushes_of_one_blob_at_once_all_succeed_and_keep_one_copy() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let mut pushes = tokio::task::JoinSet::new();
        for push in 0..16 {
            let database = database.clone();
            pushes.spawn(async move {
                push_blob(&database, &repository(&format!("r{}", push % 3)), b"same").await
            });
        }
        pushes.join_all().await;
        let digest = Digest::sha256(b"same");
        let content =
            database.blob_content(&repository("r0"), &digest).await.expect("answered").expect("there");
        assert_eq!((content.size, content.parts.len()), (4, 1));
        assert_eq!(database.garbage(100).await.expect("answered").len(), 15);
        let kept = database.object_state(&content.parts[0].object).await.expect("answered");
        assert_eq!(kept.as_deref(), Some("kept"));
    }
}

#[tokio::test]
async fn an_upload_goes_on_where_another_node_left_it() {
    for test in TestDatabase::both().await {
        let (first, second) = (test.open().await, test.open().await);
        let name = repository("team/app");
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut upload = first.create_upload(&name, algorithm).await.expect("created");
            for (node, bytes) in [(&first, b"one ".as_slice()), (&second, b"two "), (&first, b"three")] {
                let read = node.find_upload(&name, &upload.id).await.expect("answered").expect("there");
                assert_eq!(read.size, upload.size);
                let mut hasher = read.hasher.clone();
                hasher.update(bytes);
                let part = Part { object: ObjectName::new(), size: bytes.len() as u64 };
                node.begin_object(&part.object).await.expect("begun");
                upload = node.append(&read, &part, &hasher).await.expect("answered").expect("appended");
            }
            let read = second.find_upload(&name, &upload.id).await.expect("answered").expect("there");
            let digest = read.hasher.clone().finish();
            assert_eq!(digest, Digest::of(algorithm, b"one two three"));
            let completion = Completion {
                repository: &name,
                upload: Some(&read),
                last: None,
                digest: &digest,
                size: read.size,
            };
            assert_eq!(second.complete(&completion).await.expect("answered"), Change::Done);
            let content = first.blob_content(&name, &digest).await.expect("answered").expect("there");
            assert_eq!(content.parts.iter().map(|part| part.size).collect::<Vec<_>>(), [4, 4, 5]);
            assert!(first.find_upload(&name, &upload.id).await.expect("answered").is_none());
        }
    }
}

#[tokio::test]
async fn of_two_changes_of_one_upload_one_happens() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let name = repository("team/app");
        let upload = database.create_upload(&name, Algorithm::Sha256).await.expect("created");
        let parts = [1, 2].map(|size| Part { object: ObjectName::new(), size });
        for part in &parts {
            database.begin_object(&part.object).await.expect("begun");
        }
        let hasher = Hasher::new(Algorithm::Sha256);
        let (a, b) = tokio::join!(
            database.append(&upload, &parts[0], &hasher),
            database.append(&upload, &parts[1], &hasher)
        );
        let won = [a.expect("answered"), b.expect("answered")].into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(won.len(), 1);
        assert_eq!(database.drop_upload(&upload).await.expect("answered"), Change::Lost);
        assert_eq!(database.drop_upload(&won[0]).await.expect("answered"), Change::Done);
        assert_eq!(database.garbage(9).await.expect("answered").len(), 1, "the object of the one that won");
    }
}

#[tokio::test]
async fn an_expired_upload_is_gone_and_its_objects_are_garbage() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let name = repository("team/app");
        let upload = database.create_upload(&name, Algorithm::Sha256).await.expect("created");
        let (kept, writing) = (Part { object: ObjectName::new(), size: 3 }, ObjectName::new());
        database.begin_object(&kept.object).await.expect("begun");
        database.begin_object(&writing).await.expect("begun");
        let upload =
            database.append(&upload, &kept, &upload.hasher).await.expect("answered").expect("appended");
        let hour = Duration::from_secs(3600);
        assert_eq!(database.expire_uploads(hour).await.expect("answered"), 0);
        assert_eq!(database.expire_objects(hour).await.expect("answered"), 0);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while database.expire_uploads(Duration::ZERO).await.expect("answered") == 0 {
            assert!(std::time::Instant::now() < deadline, "the upload never expired");
        }
        assert_eq!(database.expire_objects(Duration::ZERO).await.expect("answered"), 1);
        assert_eq!(
            database.append(&upload, &kept, &upload.hasher).await.expect("answered").map(|u| u.size),
            None
        );
        let garbage: Vec<_> =
            database.garbage(9).await.expect("answered").into_iter().map(|g| g.object).collect();
        assert_eq!(garbage.len(), 2);
        database.forget_objects(&garbage).await.expect("forgotten");
        assert_eq!(database.object_state(&writing).await.expect("answered"), None);
        // A writer that lived after all gives its object up: it is noted again, and deleted again.
        database.discard_object(&writing).await.expect("noted");
        assert_eq!(database.object_state(&writing).await.expect("answered").as_deref(), Some("garbage"));
    }
}

#[tokio::test]
async fn a_blob_is_seen_only_where_it_is_linked() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let (a, b, c) = (repository("a"), repository("b"), repository("c"));
        let digest = push_blob(&database, &a, b"bytes").await;
        assert_eq!(database.blob_size(&a, &digest).await.expect("answered"), Some(5));
        assert_eq!(database.blob_size(&b, &digest).await.expect("answered"), None);
        let mount = |from| database.mount_blob(from, &b, &digest);
        assert!(!mount(MountFrom::Repository(&c)).await.expect("answered"));
        assert_eq!(database.blob_content(&b, &digest).await.expect("answered"), None);
        assert!(mount(MountFrom::Repository(&a)).await.expect("answered"));
        assert!(mount(MountFrom::Any).await.expect("answered"));
        assert_eq!(database.blob_size(&b, &digest).await.expect("answered"), Some(5));
        assert_eq!(database.unlink_blob(&b, &digest).await.expect("answered"), Unlinked::Done);
        assert_eq!(database.unlink_blob(&b, &digest).await.expect("answered"), Unlinked::Unknown);
        push_manifest(&database, &a, &[(&digest, 5)], "v1").await;
        assert_eq!(database.unlink_blob(&a, &digest).await.expect("answered"), Unlinked::InUse);
        assert_eq!(database.blob_size(&a, &digest).await.expect("answered"), Some(5));
    }
}

#[tokio::test]
async fn a_manifest_needs_its_blobs_with_their_sizes() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let name = repository("team/app");
        let digest = push_blob(&database, &name, b"bytes").await;
        let absent = Digest::sha256(b"absent");
        let (_, put) = push_manifest(&database, &name, &[(&digest, 5), (&absent, 6)], "v1").await;
        assert_eq!(put, Put::Missing(vec![absent]));
        let (_, put) = push_manifest(&database, &name, &[(&digest, 6)], "v1").await;
        assert_eq!(put, Put::WrongSize { digest: digest.clone(), described: 6, stored: 5 });
        assert_eq!(
            database.repositories("", 9, &Visible::All).await.expect("answered"),
            Vec::<String>::new()
        );
        let (manifest, put) = push_manifest(&database, &name, &[(&digest, 5)], "v1").await;
        assert_eq!(put, Put::Stored);
        let tag: Tag = "v1".parse().expect("tag");
        assert!(database.delete_tag(&name, &tag).await.expect("answered"));
        assert!(!database.delete_tag(&name, &tag).await.expect("answered"));
        let by_digest = Reference::Digest(manifest.clone());
        assert!(database.manifest_head(&name, &by_digest).await.expect("answered").is_some());
        push_manifest(&database, &name, &[(&digest, 5)], "v1").await;
        assert!(database.delete_manifest(&name, &manifest).await.expect("answered"));
        assert!(!database.delete_manifest(&name, &manifest).await.expect("answered"));
        assert_eq!(database.tags(&name, "", 9).await.expect("answered"), Some(vec![]));
    }
}
