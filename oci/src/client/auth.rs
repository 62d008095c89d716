//! What a registry has let us have so far, and what to do when it asks who we are (distribution specification's token
//! authentication; RFC 6750).
//!
//! A token of a scope is asked for once, however many requests wait for it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use http::{HeaderValue, Response, header};
use hyper::body::Incoming;

use super::{
    FetchError,
    send::{Scope, Sender},
};
use crate::challenge::{Bearer, Challenge};

/// Scopes whose tokens are kept. Beyond it all are forgotten and asked for anew.
const MAX_TOKENS: usize = 2_000;
/// How long the Basic header of a password file is used before the file is read again.
const BASIC_LIFE: Duration = Duration::from_secs(60);

type Asking = BoxFuture<'static, Result<HeaderValue, FetchError>>;

/// What a registry has let us have so far.
#[derive(Default)]
pub(super) struct Tokens(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    tokens: HashMap<Scope, Remembered>,
    asking: HashMap<Scope, WeakShared<Asking>>,
    /// What to send where the registry asked for Basic.
    basic: Option<Remembered>,
}

#[derive(Clone)]
struct Remembered {
    authorization: HeaderValue,
    until: Instant,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.memory().tokens.len())
    }
}

impl Tokens {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to send without having been asked.
    pub(super) fn remembered(&self, scope: &Scope) -> Option<HeaderValue> {
        let memory = self.memory();
        let remembered = memory.basic.as_ref().or_else(|| memory.tokens.get(scope))?;
        (Instant::now() < remembered.until).then(|| remembered.authorization.clone())
    }

    fn remember(&self, scope: &Scope, authorization: HeaderValue, life: Duration) {
        let now = Instant::now();
        let mut memory = self.memory();
        if memory.tokens.len() >= MAX_TOKENS {
            memory.tokens.retain(|_, remembered| now < remembered.until);
            if memory.tokens.len() >= MAX_TOKENS {
                memory.tokens.clear();
            }
        }
        memory.tokens.insert(scope.clone(), Remembered { authorization, until: now + life });
    }
}

impl Sender {
    /// What the challenge in `response` asks for; `None` where there is nothing (more) to offer. `sent` is what was refused.
    pub(super) async fn authorize(
        self: &Arc<Self>,
        response: &Response<Incoming>,
        scope: &Scope,
        sent: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, FetchError> {
        match challenge(response) {
            None => Ok(None),
            Some(Challenge::Basic) => {
                let basic = self.keeper.current().await?.basic();
                let Some(basic) = basic.filter(|basic| Some(basic) != sent) else {
                    self.tokens.memory().basic = None;
                    return Ok(None);
                };
                let remembered =
                    Remembered { authorization: basic.clone(), until: Instant::now() + BASIC_LIFE };
                self.tokens.memory().basic = Some(remembered);
                Ok(Some(basic))
            }
            Some(Challenge::Bearer(bearer)) => self.token(bearer, scope, sent).await.map(Some),
        }
    }

    /// A token other than the one that was sent, asked for together with everybody who wants it now.
    async fn token(
        self: &Arc<Self>,
        bearer: Bearer,
        scope: &Scope,
        sent: Option<&HeaderValue>,
    ) -> Result<HeaderValue, FetchError> {
        if let Some(newer) = self.tokens.remembered(scope).filter(|newer| Some(newer) != sent) {
            return Ok(newer);
        }
        self.asking(bearer, scope).await
    }

    fn asking(self: &Arc<Self>, bearer: Bearer, scope: &Scope) -> Shared<Asking> {
        let mut memory = self.tokens.memory();
        let running = memory.asking.get(scope).and_then(WeakShared::upgrade);
        if let Some(running) = running.filter(|running| running.peek().is_none()) {
            return running;
        }
        let (sender, scope_of_token) = (self.clone(), scope.clone());
        let asking = async move {
            let wanted = bearer.scope.clone().unwrap_or_else(|| scope_of_token.wanted());
            let token = sender.fetch_token(&bearer, Some(&wanted)).await?;
            sender.tokens.remember(&scope_of_token, token.authorization.clone(), token.life);
            Ok(token.authorization)
        };
        let asking: Asking = Box::pin(asking);
        let asking = asking.shared();
        memory.asking.retain(|_, running| running.upgrade().is_some());
        if let Some(running) = asking.downgrade() {
            memory.asking.insert(scope.clone(), running);
        }
        asking
    }
}

/// How the registry wants to be asked: a token rather than Basic, where it takes both.
pub(super) fn challenge(response: &Response<Incoming>) -> Option<Challenge> {
    let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
    let mut challenges =
        challenges.filter_map(|value| Challenge::parse(value.to_str().ok()?)).collect::<Vec<_>>();
    challenges.sort_by_key(|challenge| *challenge == Challenge::Basic);
    challenges.into_iter().next()
}
