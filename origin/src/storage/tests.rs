//! Objects in a directory. Buckets are tested with a real server, in the system's tests.

use bytes::Bytes;
use oci::http::body::collect;

use super::*;
use crate::settings::StorageSettings;

fn storage() -> (Storage, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("temporary directory");
    (Storage::open(&StorageSettings::default(), dir.path()).expect("opens"), dir)
}

fn write(storage: &Storage, pieces: &[&'static [u8]]) -> Part {
    let object = ObjectName::new();
    let Writer::Local(mut writer) = storage.create(&object) else { panic!("a directory") };
    let pieces: Vec<Bytes> = pieces.iter().map(|piece| Bytes::from_static(piece)).collect();
    writer.write(&pieces).expect("written");
    writer.finish().expect("finished");
    Part { object, size: pieces.iter().map(|piece| piece.len() as u64).sum() }
}

fn files(dir: &Path) -> usize {
    let shards = std::fs::read_dir(dir.join("objects")).expect("readable");
    shards.map(|shard| std::fs::read_dir(shard.expect("entry").path()).expect("a directory").count()).sum()
}

#[tokio::test]
async fn parts_are_read_as_one() {
    let (storage, _dir) = storage();
    let parts =
        vec![write(&storage, &[b"abc", b"", b"de"]), write(&storage, &[]), write(&storage, &[b"fgh"])];
    for start in 0..=8 {
        for end in start..=8 {
            let body = storage.body(parts.clone(), start as u64..end as u64).await.expect("opens");
            assert_eq!(hyper::body::Body::size_hint(&body).exact(), Some((end - start) as u64));
            assert_eq!(collect(body, 99).await.expect("read"), b"abcdefgh"[start..end]);
        }
    }
}

#[tokio::test]
async fn a_missing_object_is_an_error_before_the_answer_and_a_short_one_breaks_it_off() {
    let (storage, _dir) = storage();
    let absent = Part { object: ObjectName::new(), size: 3 };
    assert!(storage.body(vec![absent.clone()], 0..3).await.is_err());
    let there = write(&storage, &[b"abc"]);
    let body = storage.body(vec![there.clone(), absent], 0..6).await.expect("the first is there");
    assert!(collect(body, 99).await.is_err());
    let longer = Part { size: 9, ..there };
    let body = storage.body(vec![longer], 0..9).await.expect("opens");
    assert!(collect(body, 99).await.is_err());
}

#[tokio::test]
async fn a_writer_that_is_given_up_leaves_nothing_and_deleting_is_repeatable() {
    let (storage, dir) = storage();
    let Writer::Local(mut writer) = storage.create(&ObjectName::new()) else { panic!("a directory") };
    writer.write(&[Bytes::from_static(b"half")]).expect("written");
    assert_eq!(files(dir.path()), 1);
    drop(writer);
    assert_eq!(files(dir.path()), 0);
    let garbage = Garbage { object: write(&storage, &[b"whole"]).object, multipart: None };
    // What a process that was killed while it wrote leaves behind.
    let staged =
        dir.path().join("objects").join(garbage.object.shard()).join(format!("{}.part", garbage.object));
    std::fs::write(staged, b"half").expect("written");
    assert_eq!(files(dir.path()), 2);
    storage.delete(&garbage).await.expect("deleted");
    assert_eq!(files(dir.path()), 0);
    storage.delete(&garbage).await.expect("deleted again");
    storage.check().await.expect("the directory answers");
}

#[test]
fn urls_that_name_no_storage_are_refused() {
    let open = |url: &str| {
        let settings = StorageSettings { url: Some(url.to_owned()), ..StorageSettings::default() };
        Storage::open(&settings, Path::new("/nonexistent"))
    };
    assert!(open("ftp://x/y").is_err());
    assert!(open("s3://bucket/prefix").is_ok());
    assert!(open("nothing").is_err());
}

#[test]
fn ten_thousand_parts_are_enough_for_any_layer() {
    let total: u64 = (0..10_000).map(|index| remote::part_size(index) as u64).sum();
    assert!(total > 190 << 30, "{total}");
    assert!((0..10_000).all(|index| remote::part_size(index) >= 5 << 20));
}
