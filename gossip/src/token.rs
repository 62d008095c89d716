//! Access tokens: JSON Web Tokens (RFC 7519) signed with Ed25519 (RFC 8037), made by an origin, checked by every node.
//!
//! One algorithm, chosen here and never by the token: a header that says anything else is no token of ours. Whether the
//! owner still exists, and still may what the token says, is for the node that is asked.

mod claims;
mod keys;
#[cfg(test)]
mod tests;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;

pub use claims::{Account, Claims, Expected};
pub use keys::{Jwk, Jwks, KeyId, PublicKey, SigningKey, VerifyingKeys};

/// The longest token that is looked at, in bytes: a hundred scopes with the longest names fit.
pub const MAX_TOKEN: usize = 48 * 1024;

/// Why a text is no valid token. It says nothing about the token's contents, so it may be told to whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Not a token of this kind at all.
    #[error("the token cannot be read")]
    Malformed,
    /// Signed with a key that is not, or no longer, among those of the service.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// Not signed by the key that it names.
    #[error("the token's signature is wrong")]
    Signature,
    /// Made by another issuer.
    #[error("the token is of another issuer")]
    Issuer,
    /// Made for another service.
    #[error("the token is for another service")]
    Audience,
    /// It is over.
    #[error("the token has expired")]
    Expired,
    /// It has not begun.
    #[error("the token is not valid yet")]
    NotYet,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: KeyId,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// The only algorithm (RFC 8037, section 3.1).
const ALGORITHM: &str = "EdDSA";

/// Makes a token.
pub fn sign(claims: &Claims, key: &SigningKey) -> String {
    let header = format!(r#"{{"typ":"JWT","alg":"{ALGORITHM}","kid":"{}"}}"#, key.id());
    let claims = serde_json::to_vec(claims).expect("strings and numbers serialize");
    let signed =
        format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// Checks a token, and gives what it says.
///
/// # Errors
/// Why it is not valid; nothing of it may be used then.
pub fn verify(token: &str, keys: &VerifyingKeys, expected: &Expected<'_>) -> Result<Claims, InvalidToken> {
    if token.len() > MAX_TOKEN {
        return Err(InvalidToken::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(InvalidToken::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(InvalidToken::Malformed)?;
    let header: Header = decode(header)?;
    // A critical extension that is not understood makes the whole invalid (RFC 7515, section 4.1.11).
    if header.alg != ALGORITHM || header.crit.is_some() {
        return Err(InvalidToken::Malformed);
    }
    let key = keys.find(&header.kid).ok_or(InvalidToken::UnknownKey)?;
    let signature =
        BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_not_base64| InvalidToken::Malformed)?;
    if !key.verifies(signed.as_bytes(), &signature) {
        return Err(InvalidToken::Signature);
    }
    let claims: Claims = decode(claims)?;
    claims.check(expected)?;
    Ok(claims)
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, InvalidToken> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_not_base64| InvalidToken::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_not_json| InvalidToken::Malformed)
}
