use super::*;

fn place(repository: &str) -> Place {
    Place { upstream: "r.example".into(), repository: repository.parse().expect("a name") }
}

fn manifest(bytes: &'static str) -> StoredManifest {
    let bytes = Bytes::from(bytes);
    StoredManifest { digest: Digest::sha256(&bytes), media_type: "application/json".into(), bytes }
}

async fn open(data: &Path, reserve: u64) -> (Metadata, Counter) {
    let used = Counter::default();
    (Metadata::open(data, reserve, used.clone()).await.expect("opened"), used)
}

#[tokio::test]
async fn images_are_listed_by_tag_and_by_digest_where_nothing_else_names_them() {
    let data = tempfile::tempdir().expect("directory");
    let (metadata, _) = open(data.path(), 0).await;
    let (app, index, child) = (place("team/app"), manifest("index"), manifest("child"));
    let lone = manifest("lone");
    let of_index = [Child { digest: child.digest.clone(), size: 5, kind: ChildKind::Manifest }];
    metadata.keep_manifest(&app, &index, &[], &of_index).await;
    metadata.keep_manifest(&app, &child, &[], &[]).await;
    metadata.keep_manifest(&app, &lone, &[], &[]).await;
    let record = TagRecord { digest: index.digest.clone(), confirmed: 1 };
    metadata.keep_tag(&app, &"v1".parse().expect("a tag"), &record).await;
    let uses = [ImageUse { place: app.clone(), digest: index.digest.clone(), used: 7_000_000, hits: 3 }];
    metadata.write_uses(&uses).await.expect("written");
    let listed = metadata.images().await.expect("listed");
    let names: Vec<String> = listed.iter().map(|row| row.reference.to_string()).collect();
    assert_eq!(names, ["v1".to_owned(), lone.digest.to_string()], "a child of an index is part of it");
    assert_eq!(listed[0].hits, 3);
    assert!(metadata.is_needed(&child.digest).await.expect("read"));
    metadata.forget_image(&app, &index.digest).await.expect("written");
    assert!(!metadata.is_needed(&child.digest).await.expect("read"));
    assert_eq!(metadata.manifest(&app, &index.digest).await.expect("read"), None);
    assert_eq!(metadata.tag(&app, &"v1".parse().expect("a tag")).await.expect("read"), None);
}

#[tokio::test]
async fn a_hit_on_a_blob_is_a_use_of_its_images() {
    use crate::store::{Changes, Key, Row};
    let data = tempfile::tempdir().expect("directory");
    let (metadata, _) = open(data.path(), 0).await;
    let (app, image, layer) = (place("team/app"), manifest("image"), Digest::sha256(b"layer"));
    let children = [Child { digest: layer.clone(), size: 5, kind: ChildKind::Blob }];
    metadata.keep_manifest(&app, &image, &[], &children).await;
    let used = u32::MAX - 1;
    let row = Row { key: Key::of(&layer), size: 5, used, frequency: 2, verified: 1 };
    metadata.write_changes(&Changes { rows: vec![row.clone()], gone: Vec::new() }).await.expect("written");
    assert_eq!(metadata.images().await.expect("listed")[0].used, used);
    assert_eq!(metadata.blob(&row.key).await.expect("read"), Some(row));
}

#[tokio::test]
async fn the_reserve_is_given_up_once_and_taken_again() {
    let data = tempfile::tempdir().expect("directory");
    let (metadata, used) = open(data.path(), 1 << 20).await;
    let file = data.path().join("metadata.reserve");
    let length = || std::fs::metadata(&file).map_or(0, |found| found.len());
    assert_eq!(length(), 1 << 20);
    assert!(metadata.reserve.release());
    assert_eq!(length(), 0);
    assert!(!metadata.reserve.release(), "there is nothing left to give");
    assert_eq!(used.get(), 1);
    metadata.renew_reserve();
    assert_eq!(length(), 1 << 20);
}

#[tokio::test]
async fn a_damaged_database_is_set_aside_and_begun_anew() {
    let data = tempfile::tempdir().expect("directory");
    let (metadata, _) = open(data.path(), 0).await;
    metadata.close().await;
    std::fs::write(data.path().join("metadata.db"), vec![7; 8192]).expect("written");
    let (again, _) = open(data.path(), 0).await;
    again.check().await.expect("it works");
    assert!(data.path().join("metadata.damaged").exists());
}

#[tokio::test]
async fn a_write_that_meets_a_full_disk_uses_the_reserve_and_fails_no_pull() {
    let data = tempfile::tempdir().expect("directory");
    let (metadata, used) = open(data.path(), 1 << 20).await;
    let limit = |pages: u32| sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")));
    // SQLite's own way of being full: it may not grow any more.
    limit(1).execute(&metadata.write).await.expect("set");
    let (app, image, layer) = (place("team/app"), manifest("image"), Digest::sha256(b"layer"));
    let large = StoredManifest { bytes: Bytes::from(vec![b' '; 200_000]), ..image.clone() };
    let link = Link { digest: layer.clone(), size: Some(5) };
    metadata.keep_manifest(&app, &large, std::slice::from_ref(&link), &[]).await;
    assert_eq!(used.get(), 1, "the reserve was given up");
    assert_eq!(metadata.manifest(&app, &image.digest).await.expect("read"), None, "and it was not enough");
    assert_eq!(
        metadata.link(&app, &layer).await.expect("read"),
        Some(link),
        "in memory, for the pull that goes on"
    );
    limit(1_000_000).execute(&metadata.write).await.expect("set");
    metadata.keep_manifest(&app, &large, &[], &[]).await;
    assert!(metadata.manifest(&app, &image.digest).await.expect("read").is_some(), "there is room again");
}
