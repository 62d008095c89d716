//! Secrets of 256 random bits, and what is kept of them.

use aws_lc_rs::{constant_time, digest, rand};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{database::accounts::SecretHash, settings::Secret};

/// Begins every robot's secret, so that people and scanners of source code know one when they see it.
const ROBOT: &str = "rsr_";
/// Begins every refresh token.
const REFRESH: &str = "rst_";

/// 256 bits that nobody can guess.
///
/// # Panics
/// The system has no randomness, without which nothing here may go on.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// A secret for a robot, and what is kept of it.
pub(crate) fn for_robot() -> (Secret, SecretHash) {
    let secret = Secret::from(format!("{ROBOT}{}", BASE64_URL_SAFE_NO_PAD.encode(random())));
    let hash = hash(&secret);
    (secret, hash)
}

/// A refresh token, and what is kept of it.
pub(crate) fn for_refresh() -> (Secret, String) {
    let secret = Secret::from(format!("{REFRESH}{}", BASE64_URL_SAFE_NO_PAD.encode(random())));
    let hash = refresh_hash(&secret);
    (secret, hash)
}

/// A password for the first admin.
pub(crate) fn for_admin() -> Secret {
    Secret::from(BASE64_URL_SAFE_NO_PAD.encode(&random()[..18]))
}

/// What is kept of a random secret.
pub(crate) fn hash(secret: &Secret) -> SecretHash {
    SecretHash(sha256(&[secret.expose().as_bytes()]).to_vec())
}

/// What a refresh token is found by. Its own hash is looked up, so that the time of the comparison in the database says
/// nothing about the token.
pub(crate) fn refresh_hash(token: &Secret) -> String {
    hash(token).0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares in a time that does not depend on where they differ.
pub(crate) fn same(a: &SecretHash, b: &SecretHash) -> bool {
    constant_time::verify_slices_are_equal(&a.0, &b.0).is_ok()
}

/// The digest of some texts, each with its length, so that no two lists of texts have the same.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        if parts.len() > 1 {
            context.update(&(part.len() as u64).to_be_bytes());
        }
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}
