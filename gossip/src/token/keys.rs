//! The keys that tokens are signed with, and what the world may know of them.

use std::fmt;

use aws_lc_rs::{
    digest,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// Bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no Ed25519 key")]
pub struct InvalidKey;

/// Names a key: a digest of its public half, so that two keys never have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    fn of(public: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, public);
        Self(BASE64_URL_SAFE_NO_PAD.encode(&digest.as_ref()[..12]))
    }

    /// As it stands in a token's header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key that signs.
pub struct SigningKey {
    id: KeyId,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

impl SigningKey {
    /// The key of a seed: 32 random bytes.
    ///
    /// # Errors
    /// They are of another length.
    pub fn from_seed(seed: &[u8]) -> Result<Self, InvalidKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_rejected| InvalidKey)?;
        Ok(Self { id: KeyId::of(pair.public_key().as_ref()), pair })
    }

    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The half that others may have.
    ///
    /// # Panics
    /// Never: the pair has one.
    pub fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.pair.public_key().as_ref()).expect("a pair has a valid public half")
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

/// The half of a key that everybody may have.
#[derive(Clone)]
pub struct PublicKey {
    id: KeyId,
    bytes: Vec<u8>,
    parsed: ParsedPublicKey,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id)
    }
}

impl PublicKey {
    /// Reads one.
    ///
    /// # Errors
    /// They are no point of the curve.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let parsed = ParsedPublicKey::new(&ED25519, bytes).map_err(|_rejected| InvalidKey)?;
        Ok(Self { id: KeyId::of(bytes), bytes: bytes.to_vec(), parsed })
    }

    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }

    /// As it is published.
    pub fn jwk(&self) -> Jwk {
        Jwk {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            alg: "EdDSA".to_owned(),
            r#use: "sig".to_owned(),
            kid: self.id.clone(),
            x: BASE64_URL_SAFE_NO_PAD.encode(&self.bytes),
        }
    }
}

/// The keys whose tokens are accepted.
#[derive(Clone, Debug, Default)]
pub struct VerifyingKeys(Vec<PublicKey>);

impl VerifyingKeys {
    /// These.
    pub fn new(keys: Vec<PublicKey>) -> Self {
        Self(keys)
    }

    /// The key of that name.
    pub fn find(&self, id: &KeyId) -> Option<&PublicKey> {
        self.0.iter().find(|key| key.id == *id)
    }

    /// As they are published at `/.well-known/jwks.json`.
    pub fn jwks(&self) -> Jwks {
        Jwks { keys: self.0.iter().map(PublicKey::jwk).collect() }
    }
}

/// A public key as JSON (RFC 7517; RFC 8037, section 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// `OKP`
    pub kty: String,
    /// `Ed25519`
    pub crv: String,
    /// `EdDSA`
    pub alg: String,
    /// `sig`
    pub r#use: String,
    /// The key's name.
    pub kid: KeyId,
    /// The public key, in base64url.
    pub x: String,
}

/// A set of public keys as JSON (RFC 7517, section 5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    /// The keys.
    pub keys: Vec<Jwk>,
}
