//! Repository names, tags and references: what is taken can be put into a path, a header or a statement as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::name::{InvalidReference, MAX_REPOSITORY_NAME, MAX_TAG, Reference, RepositoryName, Tag};

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<RepositoryName>() {
        assert_eq!(name.as_str(), text);
        assert!((1..=MAX_REPOSITORY_NAME).contains(&text.len()));
        assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b)));
        assert!(!text.contains("..") && !text.contains("//"), "{text:?}");
        for element in text.split('/') {
            let ends = [element.bytes().next(), element.bytes().last()];
            assert!(ends.iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric())), "{text:?}");
        }
        assert!(text.starts_with(name.project()));
    }
    let tag = text.parse::<Tag>();
    if tag.is_ok() {
        assert!((1..=MAX_TAG).contains(&text.len()));
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
        assert!(!text.starts_with(['.', '-']), "{text:?}");
    }
    match text.parse::<Reference>() {
        Ok(reference) => assert_eq!(reference.to_string(), text),
        Err(InvalidReference::Tag(_)) => assert!(tag.is_err()),
        Err(InvalidReference::Digest(_)) => assert!(text.contains(':')),
    }
});
