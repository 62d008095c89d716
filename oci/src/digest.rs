//! Content digests (OCI image specification, "Digests") and the hashers that make them.
//!
//! A [`Digest`] is parsed once and is then always a registered algorithm with a lower-case hex value of the right
//! length, so it is safe as a file or object name. A [`Hasher`] can be saved and taken up again, on another machine too.

use std::{fmt, ops::Range, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{
    Digest as _, Sha256, Sha512,
    digest::common::hazmat::{SerializableState, SerializedState},
};

/// A digest algorithm registered by the OCI image specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, which every registry must support.
    Sha256,
    /// SHA-512, which a registry may support; ours does.
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hex characters a digest of this algorithm has.
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl FromStr for Algorithm {
    type Err = InvalidDigest;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(InvalidDigest::UnknownAlgorithm),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    /// There is no `algorithm:hex` in it.
    #[error("a digest is written algorithm:hex, for example sha256:e3b0c4…")]
    Form,
    /// The algorithm is none of [`Algorithm`].
    #[error("the digest algorithm is not one of sha256, sha512")]
    UnknownAlgorithm,
    /// The value is not lower-case hex of the algorithm's length.
    #[error("the digest's value must be {expected} lower-case hex characters")]
    Value {
        /// How many characters the algorithm asks for.
        expected: usize,
    },
}

/// The digest of some bytes: `sha256:…` or `sha512:…`. A clone shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    text: Arc<str>,
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, bytes)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The part behind the colon: lower-case hex.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.as_str().len() + 1..]
    }

    /// The whole text, `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `bytes` have this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        Self::of(self.algorithm, bytes) == *self
    }

    fn from_raw(algorithm: Algorithm, raw: &[u8]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(algorithm.as_str().len() + 1 + raw.len() * 2);
        text.push_str(algorithm.as_str());
        text.push(':');
        for byte in raw {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        }
        Self { algorithm, text: text.into() }
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (name, hex) = s.split_once(':').ok_or(InvalidDigest::Form)?;
        let algorithm: Algorithm = name.parse()?;
        let expected = algorithm.hex_len();
        if hex.len() != expected || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidDigest::Value { expected });
        }
        Ok(Self { algorithm, text: s.into() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A running digest.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// What it computes.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(h) => h.update(bytes),
            State::Sha512(h) => h.update(bytes),
        }
    }

    /// The digest of all that was taken in.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(h) => Digest::from_raw(Algorithm::Sha256, &h.finalize()),
            State::Sha512(h) => Digest::from_raw(Algorithm::Sha512, &h.finalize()),
        }
    }

    /// The state as bytes (about a hundred for SHA-256, two hundred for SHA-512), for [`Hasher::restore`].
    pub fn save(&self) -> Vec<u8> {
        match &self.0 {
            State::Sha256(h) => h.serialize().to_vec(),
            State::Sha512(h) => h.serialize().to_vec(),
        }
    }

    /// The hasher whose [`Hasher::save`] gave `state`.
    ///
    /// # Errors
    /// `state` was not made by `save` for this algorithm.
    pub fn restore(algorithm: Algorithm, state: &[u8]) -> Result<Self, InvalidState> {
        Ok(Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(deserialize(state, 32..40)?),
            Algorithm::Sha512 => State::Sha512(deserialize(state, 64..80)?),
        }))
    }
}

/// More blocks than any content has: 2^50 of them are 64 PiB. A damaged count would overflow at the end.
const MAX_BLOCKS: u128 = 1 << 50;

/// `blocks` is where sha2 puts the number of blocks it has seen, little-endian, behind the words of the hash.
fn deserialize<H: SerializableState>(state: &[u8], blocks: Range<usize>) -> Result<H, InvalidState> {
    let mut count = [0; 16];
    let told = state.get(blocks).ok_or(InvalidState)?;
    count[..told.len()].copy_from_slice(told);
    if u128::from_le_bytes(count) > MAX_BLOCKS {
        return Err(InvalidState);
    }
    let state: &SerializedState<H> = state.try_into().map_err(|_why| InvalidState)?;
    H::deserialize(state).map_err(|_why| InvalidState)
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm())
    }
}

/// The saved state of a hasher is damaged or of another algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the saved state of the running digest is damaged")]
pub struct InvalidState;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_published_one() {
        assert_eq!(
            Digest::sha256(b"").as_str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn upper_case_short_long_and_foreign_digests_are_refused() {
        let good = Digest::sha256(b"x").to_string();
        assert_eq!(good.parse::<Digest>().expect("valid").to_string(), good);
        assert_eq!(good.to_uppercase().parse::<Digest>(), Err(InvalidDigest::UnknownAlgorithm));
        let value = Err(InvalidDigest::Value { expected: 64 });
        assert_eq!(good[..70].parse::<Digest>(), value);
        assert_eq!(format!("{good}0").parse::<Digest>(), value);
        assert_eq!("sha256:".parse::<Digest>(), value);
        assert_eq!("md5:00".parse::<Digest>(), Err(InvalidDigest::UnknownAlgorithm));
        assert_eq!("e3b0".parse::<Digest>(), Err(InvalidDigest::Form));
    }

    proptest! {
        #[test]
        fn a_hasher_saved_at_any_byte_goes_on_as_if_nothing_had_happened(
            data in proptest::collection::vec(any::<u8>(), 0..4096), cut in 0.0..=1.0, wide in any::<bool>()
        ) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a position in a short vector")]
            let cut = (data.len() as f64 * cut) as usize;
            let algorithm = if wide { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let mut first = Hasher::new(algorithm);
            first.update(&data[..cut]);
            let mut second = Hasher::restore(algorithm, &first.save()).expect("just saved");
            second.update(&data[cut..]);
            prop_assert_eq!(second.finish(), Digest::of(algorithm, &data));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }

        #[test]
        fn no_saved_state_makes_restore_panic_or_what_was_restored(
            state in proptest::collection::vec(any::<u8>(), 0..256), byte: prop::sample::Index, value: u8
        ) {
            let mut damaged = Hasher::new(Algorithm::Sha256).save();
            *byte.get_mut(&mut damaged) = value;
            for (algorithm, state) in [(Algorithm::Sha256, &state), (Algorithm::Sha512, &state), (Algorithm::Sha256, &damaged)] {
                if let Ok(mut hasher) = Hasher::restore(algorithm, state) {
                    hasher.update(b"more");
                    prop_assert_eq!(hasher.finish().algorithm(), algorithm);
                }
            }
        }
    }
}
