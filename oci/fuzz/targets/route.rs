//! Paths and queries: what the router decided on is what stands in the path, and nothing in it climbs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::route::{Query, Route, decode_path};

fuzz_target!(|target: &str| {
    let (raw, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let query = Query::parse(query);
    for key in ["ns", "digest", "n", "last", "mount", "from"] {
        assert_eq!(query.get(key), query.all(key).next());
    }
    let Ok(path) = decode_path(raw) else { return };
    assert!(!path.contains(['\\', '\0', '\r', '\n']), "{path:?}");
    let Ok(route) = Route::parse(&path) else { return };
    let written = match &route {
        Route::Version => "/v2/".to_owned(),
        Route::Catalog => "/v2/_catalog".to_owned(),
        Route::Tags(name) => format!("/v2/{name}/tags/list"),
        Route::Manifest(name, reference) => format!("/v2/{name}/manifests/{reference}"),
        Route::Blob(name, digest) => format!("/v2/{name}/blobs/{digest}"),
        Route::Uploads(name) => format!("/v2/{name}/blobs/uploads/"),
        Route::Upload(name, id) => format!("/v2/{name}/blobs/uploads/{id}"),
        Route::Referrers(name, digest) => format!("/v2/{name}/referrers/{digest}"),
    };
    assert_eq!(written.trim_end_matches('/'), path.trim_end_matches('/'), "{route:?}");
    assert_eq!(Route::parse(&written).expect("a route writes a route"), route);
    let name = route.repository().map_or("", |name| name.as_str());
    assert!(!name.contains("..") && !name.contains("//"), "{route:?}");
    assert!(!route.label().is_empty());
});
