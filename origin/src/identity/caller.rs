//! The caller of one request: what was shown, and who that is.

use std::{net::IpAddr, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use gossip::{
    access::{Principal, Scopes, Shown},
    token::InvalidToken,
};
use http::{HeaderMap, header};

use super::login::LoginError;
use crate::{
    database::{Error, accounts::Account},
    settings::Secret,
};

/// The longest `Authorization` that is looked at, in bytes.
const MAX_AUTHORIZATION: usize = 60 * 1024;

/// What a request shows.
#[derive(Clone, Debug)]
pub(crate) enum Credentials {
    None,
    Basic {
        name: String,
        secret: Secret,
    },
    Bearer(Secret),
    /// There is something, and it is none of the above.
    Unreadable,
}

impl Credentials {
    /// Reads `Authorization` (RFC 7617, RFC 6750). Two of them say nothing.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::None,
            (Some(value), None) if value.len() <= MAX_AUTHORIZATION => {
                value.to_str().ok().and_then(Self::parse).unwrap_or(Self::Unreadable)
            }
            (Some(_), _) => Self::Unreadable,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("basic") {
            let bytes = BASE64_STANDARD.decode(rest).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let (name, secret) = text.split_once(':')?;
            // Some clients send this where they have nothing to send.
            if name.is_empty() && secret.is_empty() {
                return Some(Self::None);
            }
            return Some(Self::Basic { name: name.to_owned(), secret: Secret::from(secret.to_owned()) });
        }
        let token = scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty();
        token.then(|| Self::Bearer(Secret::from(rest.to_owned())))
    }
}

/// Why it is not known who is asking.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum AuthError {
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// The account is gone, disabled or over, or has another password since.
    #[error("the token was revoked")]
    Revoked,
    #[error("Authorization holds neither Basic nor Bearer credentials")]
    Unreadable,
    #[error(transparent)]
    Database(#[from] Arc<Error>),
}

/// The caller of one request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    principal: Principal,
    account: Option<Arc<Account>>,
    shown: Evidence,
    pub(crate) from: Option<IpAddr>,
}

#[derive(Clone, Debug)]
enum Evidence {
    Nothing,
    Secret,
    Token(Scopes),
}

impl Caller {
    /// Anybody at a node that asks nobody.
    pub(crate) fn everybody(from: Option<IpAddr>) -> Self {
        Self { principal: Principal::Everybody, account: None, shown: Evidence::Nothing, from }
    }

    pub(super) fn nobody(from: Option<IpAddr>) -> Self {
        Self { principal: Principal::Anonymous, account: None, shown: Evidence::Nothing, from }
    }

    pub(crate) fn with_secret(account: Arc<Account>, from: Option<IpAddr>) -> Self {
        Self { principal: account.principal.clone(), account: Some(account), shown: Evidence::Secret, from }
    }

    pub(super) fn with_token(account: Option<Arc<Account>>, scopes: Scopes, from: Option<IpAddr>) -> Self {
        let principal = account.as_ref().map_or(Principal::Anonymous, |account| account.principal.clone());
        Self { principal, account, shown: Evidence::Token(scopes), from }
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    /// The account's id, under which memberships are found.
    pub(crate) fn id(&self) -> Option<i64> {
        self.account.as_ref().map(|account| account.id)
    }

    pub(crate) fn shown(&self) -> Shown<'_> {
        match &self.shown {
            Evidence::Nothing => Shown::Nothing,
            Evidence::Secret => Shown::Secret,
            Evidence::Token(scopes) => Shown::Token(scopes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Credentials {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
        Credentials::of(&headers)
    }

    #[test]
    fn authorization_is_read_and_never_shown() {
        let basic = read(&format!("basic {}", BASE64_STANDARD.encode("ann:pass:word")));
        assert!(
            matches!(&basic, Credentials::Basic { name, secret } if name == "ann" && secret.expose() == "pass:word")
        );
        assert!(!format!("{basic:?}").contains("pass"), "{basic:?}");
        let bearer = read("Bearer a.b.c");
        assert!(matches!(&bearer, Credentials::Bearer(token) if token.expose() == "a.b.c"));
        assert!(!format!("{bearer:?}").contains("a.b.c"), "{bearer:?}");
        assert!(matches!(read(&format!("Basic {}", BASE64_STANDARD.encode(":"))), Credentials::None));
        for bad in ["Basic", "Basic !", "Basic YQ==", "Digest x", "Bearer ", "x", &"x".repeat(61_000)] {
            assert!(matches!(read(bad), Credentials::Unreadable), "{bad:.20}");
        }
        let mut twice = HeaderMap::new();
        for token in ["Bearer a", "Bearer b"] {
            twice.append(header::AUTHORIZATION, token.parse().expect("a header"));
        }
        assert!(matches!(Credentials::of(&twice), Credentials::Unreadable));
        assert!(matches!(Credentials::of(&HeaderMap::new()), Credentials::None));
    }
}
