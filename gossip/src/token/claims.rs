//! What a token says.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::InvalidToken;
use crate::access::Grant;

/// What a token says (RFC 7519, section 4.1; the token specification's `access`). Times are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who made it.
    pub iss: String,
    /// Whose it is; empty for an anonymous one.
    pub sub: String,
    /// The service that it is for.
    pub aud: String,
    /// From then on it is not valid.
    pub exp: u64,
    /// Before then it is not valid.
    pub nbf: u64,
    /// When it was made.
    pub iat: u64,
    /// Its own name, in the record of what was done with it.
    pub jti: String,
    /// What was granted.
    #[serde(default)]
    pub access: Vec<Grant>,
    /// Which account it was made for, as a name may be given to another; none for an anonymous one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
}

/// An account as it was when the token was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Never given twice.
    pub id: i64,
    /// Counts what makes older tokens void: a new password, a rotated secret.
    pub generation: i64,
}

/// What a token must say to be accepted.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Who makes tokens that are accepted here.
    pub issuer: &'a str,
    /// What the node calls itself.
    pub service: &'a str,
    /// Seconds since the epoch.
    pub now: u64,
    /// How far clocks of nodes may differ.
    pub leeway: Duration,
}

impl Claims {
    pub(super) fn check(&self, expected: &Expected<'_>) -> Result<(), InvalidToken> {
        if self.iss != expected.issuer {
            return Err(InvalidToken::Issuer);
        }
        if self.aud != expected.service {
            return Err(InvalidToken::Audience);
        }
        let leeway = expected.leeway.as_secs();
        if expected.now >= self.exp.saturating_add(leeway) {
            return Err(InvalidToken::Expired);
        }
        if expected.now.saturating_add(leeway) < self.nbf {
            return Err(InvalidToken::NotYet);
        }
        Ok(())
    }
}
