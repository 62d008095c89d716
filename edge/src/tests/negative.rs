//! A *no* is given out again for a short time, and only a registry's own.

use oci::settings::Span;

use super::{
    registry::{Image, Mood, Registry},
    *,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn settings(registry: &Registry, negative: Duration) -> Settings {
    let mut settings = Settings::default();
    settings.add_upstream(&registry.url()).expect("a host");
    settings.cache.capacity = Some(Size(1 << 30));
    settings.cache.keep_free = Some(Size(0));
    settings.freshness.negative = Span(negative);
    settings
}

/// A tag, a manifest and a blob, as paths.
fn paths() -> [String; 3] {
    let image = Image::of("team/app");
    [
        "/v2/team/app/manifests/latest".to_owned(),
        format!("/v2/team/app/manifests/{}", image.manifest_digest()),
        format!("/v2/team/app/blobs/{}", image.blob_digest()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_registry_said_no_to_is_not_asked_again_at_once_and_found_soon_after_it_is_pushed() {
    let registry = Registry::start().await;
    let data = tempfile::tempdir().expect("directory");
    let edge = start(&settings(&registry, Duration::from_secs(2)), data.path()).await;
    registry.becomes(Mood::SaysNo).await;
    let began = std::time::Instant::now();
    for path in paths() {
        assert_eq!(ask(&edge, &path, None).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let asked = registry.asked().len();
    for path in paths() {
        for _ in 0..20 {
            assert_eq!(ask(&edge, &path, None).await.status, StatusCode::NOT_FOUND, "{path}");
        }
    }
    assert!(began.elapsed() < Duration::from_secs(2), "too slow to tell anything");
    assert_eq!(registry.asked().len(), asked, "{:?}", registry.asked());
    registry.becomes(Mood::Well).await;
    for path in paths() {
        // Asked all the time: that does not make it longer.
        let found = async {
            while ask(&edge, &path, None).await.status != StatusCode::OK {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{path} is never found"));
    }
    assert!(began.elapsed() < Duration::from_secs(6), "found {:?} after the no", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_a_registrys_own_no_is_given_out_again() {
    for mood in [Mood::NoSuchPage, Mood::Unauthorized, Mood::Forbidden, Mood::Broken, Mood::HalfClosed] {
        let registry = Registry::start().await;
        let data = tempfile::tempdir().expect("directory");
        let edge = start(&settings(&registry, Duration::from_secs(600)), data.path()).await;
        registry.becomes(mood).await;
        for path in paths() {
            assert_eq!(
                ask(&edge, &path, None).await.status,
                StatusCode::SERVICE_UNAVAILABLE,
                "{mood:?} {path}"
            );
        }
        registry.becomes(Mood::Well).await;
        for path in paths() {
            assert_eq!(ask(&edge, &path, None).await.status, StatusCode::OK, "{mood:?} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_switched_off_every_no_is_asked_for() {
    let registry = Registry::start().await;
    let data = tempfile::tempdir().expect("directory");
    let edge = start(&settings(&registry, Duration::ZERO), data.path()).await;
    registry.becomes(Mood::SaysNo).await;
    for path in paths() {
        assert_eq!(ask(&edge, &path, None).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    registry.becomes(Mood::Well).await;
    for path in paths() {
        assert_eq!(ask(&edge, &path, None).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_no_of_one_repository_is_not_anothers() {
    let registry = Registry::start().await;
    let data = tempfile::tempdir().expect("directory");
    let edge = start(&settings(&registry, Duration::from_secs(600)), data.path()).await;
    let digest = Image::of("team/app").blob_digest();
    let elsewhere = format!("/v2/team/other/blobs/{digest}");
    assert_eq!(ask(&edge, &elsewhere, None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(ask(&edge, &blob(&digest), None).await.status, StatusCode::OK);
    assert_eq!(ask(&edge, &elsewhere, None).await.status, StatusCode::NOT_FOUND);
}
