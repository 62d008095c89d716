//! Manifests and indexes, as anybody may push them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::manifest::{Manifest, media_type};

fuzz_target!(|data: &[u8]| {
    for content_type in [None, Some(media_type::IMAGE_MANIFEST), Some(media_type::IMAGE_INDEX), Some("; x")] {
        let Ok(manifest) = Manifest::parse(data, content_type) else { continue };
        assert!(!manifest.media_type.is_empty());
        if let Some(sent_as @ ("application/vnd.oci.image.manifest.v1+json" | media_type::IMAGE_INDEX)) =
            content_type
        {
            assert_eq!(manifest.media_type, sent_as);
        }
        let children = manifest.blobs().chain(&manifest.manifests).chain(&manifest.subject);
        for child in children {
            assert!(i64::try_from(child.size).is_ok(), "{child:?}");
        }
        assert_eq!(manifest.manifests.len(), manifest.descriptors.len());
        assert!(manifest.manifests.is_empty() || manifest.blobs().next().is_none());
        let _ = (manifest.is_index(), manifest.referrer_type());
    }
});
