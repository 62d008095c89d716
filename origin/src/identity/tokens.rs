//! Access tokens and refresh tokens: given, and taken.

use std::{sync::Arc, time::Duration};

use gossip::{
    access::Scopes,
    token::{self, Claims, Expected, InvalidToken},
};

use super::{
    Identity,
    caller::{AuthError, Caller, Credentials},
    secret,
};
use crate::{
    database::{
        Error,
        accounts::{Account, Proof},
    },
    settings::Secret,
    time::Timestamp,
};

/// Who makes our tokens. Keys are a cluster's own, so no other cluster's tokens are taken for ours.
const ISSUER: &str = "roadstead";
/// No token is told to live shorter (token specification: clients take less for a mistake).
const SHORTEST_TOLD: u64 = 60;
/// How long a refresh token is good for.
const REFRESH_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// A token that was made.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) token: Secret,
    /// Seconds, as told to the client.
    pub(crate) expires_in: u64,
    pub(crate) issued_at: Timestamp,
}

/// What was made so that a client need not keep a password.
#[derive(Clone, Debug)]
pub(crate) struct Lasting(pub(crate) Secret);

impl Identity {
    /// Makes an access token; an anonymous one without an account.
    pub(crate) fn issue(&self, account: Option<&Account>, scopes: &Scopes) -> Option<Issued> {
        let now = Timestamp::now();
        let life = self.settings.token_ttl.0;
        let mut end = now.after(life).seconds().max(now.seconds() + 1);
        if let Some(Account { proof: Proof::Secrets { expires_at: Some(over), .. }, .. }) = account {
            end = end.min(over.seconds().max(now.seconds() + 1));
        }
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: account.map_or(String::new(), |account| account.principal.name().to_owned()),
            aud: self.settings.service.clone(),
            exp: end,
            nbf: now.seconds(),
            iat: now.seconds(),
            jti: uuid::Uuid::new_v4().to_string(),
            access: scopes.grants(),
            account: account.map(|account| token::Account { id: account.id, generation: account.generation }),
        };
        let ring = self.keys.ring();
        let token = token::sign(&claims, ring.signing(now)?);
        let expires_in = (end - now.seconds()).max(SHORTEST_TOLD);
        Some(Issued { token: Secret::from(token), expires_in, issued_at: now })
    }

    /// Makes a refresh token.
    pub(crate) async fn issue_refresh(&self, account: &Account) -> Result<Lasting, Error> {
        let (token, hash) = secret::for_refresh();
        self.database.add_refresh_token(&hash, account.id, account.generation, REFRESH_LIFE).await?;
        Ok(Lasting(token))
    }

    /// The account that a refresh token stands for.
    pub(crate) async fn account_of_refresh(&self, token: &Secret) -> Result<Arc<Account>, AuthError> {
        let found = self.database.refresh_token(&secret::refresh_hash(token)).await.map_err(Arc::new)?;
        let (id, generation) = found.ok_or(AuthError::Revoked)?;
        self.active(id, generation).await
    }

    /// Who shows these credentials.
    pub(crate) async fn authenticate(
        &self,
        credentials: &Credentials,
        from: Option<std::net::IpAddr>,
    ) -> Result<Caller, AuthError> {
        match credentials {
            Credentials::None => Ok(Caller::nobody(from)),
            Credentials::Basic { name, secret } => {
                Ok(Caller::with_secret(self.login(name, secret, from).await?, from))
            }
            Credentials::Bearer(token) => {
                let claims = self.check(token).await?;
                let scopes = Scopes::granted(&claims.access);
                let account = match claims.account {
                    Some(account) => Some(self.active(account.id, account.generation).await?),
                    None => None,
                };
                Ok(Caller::with_token(account, scopes, from))
            }
            Credentials::Unreadable => Err(AuthError::Unreadable),
        }
    }

    async fn check(&self, token: &Secret) -> Result<Arc<Claims>, AuthError> {
        let place = secret::sha256(&[&self.salt, token.expose().as_bytes()]);
        let now = Timestamp::now().seconds();
        if let Some(claims) = self.checked.get(&place)
            && now < claims.exp
        {
            return Ok(claims);
        }
        let expected =
            Expected { issuer: ISSUER, service: &self.settings.service, now, leeway: self.settings.leeway.0 };
        let mut checked = token::verify(token.expose(), &self.keys.ring().verifying, &expected);
        if checked == Err(InvalidToken::UnknownKey) {
            self.keys.look_again().await;
            checked = token::verify(token.expose(), &self.keys.ring().verifying, &expected);
        }
        let claims = Arc::new(checked?);
        self.checked.insert(place, claims.clone());
        Ok(claims)
    }

    /// An account that may still be used, and to which nothing has happened since `generation`.
    async fn active(&self, id: i64, generation: i64) -> Result<Arc<Account>, AuthError> {
        let account = self.directory.account(id).await?;
        account
            .filter(|account| account.generation == generation && account.is_active(Timestamp::now()))
            .ok_or(AuthError::Revoked)
    }
}
