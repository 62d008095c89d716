//! A digest as bytes: what a million index entries and rows are keyed by.

use oci::digest::{Algorithm, Digest};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// SHA-256, as nearly all are.
    Sha256([u8; 32]),
    /// SHA-512, elsewhere, so that it does not make the others larger.
    Sha512(Box<[u8; 64]>),
}

impl Key {
    /// The key of `digest`.
    pub(crate) fn of(digest: &Digest) -> Self {
        Self::parse(digest.algorithm(), digest.hex()).expect("a digest is hex of its algorithm's length")
    }

    /// The key of a file named by the hex of its digest.
    pub(crate) fn parse(algorithm: Algorithm, hex: &str) -> Option<Self> {
        match algorithm {
            Algorithm::Sha256 => Some(Self::Sha256(decode(hex)?)),
            Algorithm::Sha512 => Some(Self::Sha512(Box::new(decode(hex)?))),
        }
    }

    /// The digest.
    pub(crate) fn digest(&self) -> Digest {
        let text = format!("{}:{}", self.algorithm(), self.hex());
        text.parse().expect("hex of the algorithm's length is a digest")
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    pub(crate) fn hex(&self) -> String {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let mut hex = String::with_capacity(self.raw().len() * 2);
        for byte in self.raw() {
            hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
            hex.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        hex
    }

    /// As rows have it. The length tells the algorithm.
    pub(crate) fn raw(&self) -> &[u8] {
        match self {
            Self::Sha256(raw) => raw,
            Self::Sha512(raw) => &raw[..],
        }
    }

    /// Of a row.
    pub(crate) fn from_raw(raw: &[u8]) -> Option<Self> {
        match raw.len() {
            32 => Some(Self::Sha256(raw.try_into().ok()?)),
            64 => Some(Self::Sha512(Box::new(raw.try_into().ok()?))),
            _ => None,
        }
    }
}

fn decode<const LENGTH: usize>(hex: &str) -> Option<[u8; LENGTH]> {
    let nibble = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let text: &[u8] = hex.as_bytes();
    if text.len() != LENGTH * 2 {
        return None;
    }
    let mut raw = [0; LENGTH];
    for (byte, pair) in raw.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_its_digest_are_the_same() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::of(algorithm, b"content");
            let key = Key::of(&digest);
            assert_eq!(key.digest(), digest);
            assert_eq!(Key::from_raw(key.raw()), Some(key));
        }
        assert_eq!(Key::parse(Algorithm::Sha256, "README"), None);
        assert_eq!(Key::parse(Algorithm::Sha256, &"G".repeat(64)), None);
        assert!(std::mem::size_of::<Key>() <= 40);
    }
}
