//! What a registry itself has just said *no* to, so that it is not asked the same again at once.
//!
//! Only [`FetchError::SaidNo`](oci::client::FetchError::SaidNo) from the wire is kept, each for the same short time from when
//! it was said: an answer out of here never makes it longer. Questions are kept as digests, so that long names take no more
//! memory than short ones, and no two are taken for one.

use std::time::{Duration, Instant};

use oci::{
    digest::Digest,
    name::{Reference, RepositoryName},
};

use crate::store::Key;

/// How many are kept; the least asked for go first. Some 150 bytes each.
const MOST: u64 = 50_000;

/// What was asked for, and of whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question(Key);

impl Question {
    /// A manifest or a tag.
    pub(crate) fn manifest(upstream: &str, repository: &RepositoryName, reference: &Reference) -> Self {
        Self::new(&[upstream, repository.as_str(), "manifest", &reference.to_string()])
    }

    /// A blob.
    pub(crate) fn blob(upstream: &str, repository: &RepositoryName, digest: &Digest) -> Self {
        Self::new(&[upstream, repository.as_str(), "blob", digest.as_str()])
    }

    fn new(parts: &[&str]) -> Self {
        // None of them can hold a line's end.
        Self(Key::of(&Digest::sha256(parts.join("\n").as_bytes())))
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Negatives {
    kept: moka::sync::Cache<Question, Instant>,
    life: Duration,
}

impl Negatives {
    /// Each *no* is kept for `life`; none where that is 0.
    pub(crate) fn new(life: Duration) -> Self {
        let kept = moka::sync::Cache::builder().max_capacity(if life.is_zero() { 0 } else { MOST });
        Self { kept: kept.time_to_live(life).build(), life }
    }

    /// The registry said no to it not long ago.
    pub(crate) fn holds(&self, question: &Question, now: Instant) -> bool {
        !self.life.is_zero()
            && self.kept.get(question).is_some_and(|said| now.saturating_duration_since(said) < self.life)
    }

    /// The registry has said no to it.
    pub(crate) fn keep(&self, question: Question, now: Instant) {
        if !self.life.is_zero() {
            self.kept.insert(question, now);
        }
    }

    /// The registry has said something that contradicts it.
    pub(crate) fn forget(&self, question: &Question) {
        self.kept.invalidate(question);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(reference: &str) -> Question {
        let repository = "team/app".parse().expect("a name");
        Question::manifest("r.example", &repository, &reference.parse().expect("a reference"))
    }

    #[test]
    fn a_no_is_kept_for_its_time_and_asking_again_does_not_make_that_longer() {
        let negatives = Negatives::new(Duration::from_secs(5));
        let start = Instant::now();
        negatives.keep(question("v1"), start);
        for ms in [0, 2000, 4000, 4999] {
            assert!(negatives.holds(&question("v1"), start + Duration::from_millis(ms)), "{ms}");
        }
        assert!(!negatives.holds(&question("v1"), start + Duration::from_secs(5)));
        assert!(!negatives.holds(&question("v2"), start));
        negatives.forget(&question("v1"));
        assert!(!negatives.holds(&question("v1"), start));
    }

    #[test]
    fn nothing_is_kept_where_it_is_switched_off() {
        let negatives = Negatives::new(Duration::ZERO);
        let now = Instant::now();
        negatives.keep(question("v1"), now);
        assert!(!negatives.holds(&question("v1"), now));
    }

    #[test]
    fn a_flood_of_names_keeps_the_memory_bounded() {
        let negatives = Negatives::new(Duration::from_secs(3600));
        let now = Instant::now();
        let repository = "a".repeat(255).parse().expect("a name");
        for n in 0..MOST + 20_000 {
            let tag = format!("{n}-{}", "x".repeat(100)).parse().expect("a tag");
            negatives.keep(Question::manifest("r.example", &repository, &Reference::Tag(tag)), now);
        }
        negatives.kept.run_pending_tasks();
        assert!(negatives.kept.entry_count() <= MOST, "{}", negatives.kept.entry_count());
        assert!(size_of::<Question>() <= 40);
    }

    #[test]
    fn the_same_text_as_tag_and_blob_are_two_questions() {
        let digest = Digest::sha256(b"x");
        let repository: RepositoryName = "a".parse().expect("a name");
        let manifest = Question::manifest("r", &repository, &Reference::Digest(digest.clone()));
        assert_ne!(manifest, Question::blob("r", &repository, &digest));
        assert_ne!(Question::blob("r", &repository, &digest), Question::blob("s", &repository, &digest));
    }
}
