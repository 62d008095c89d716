//! What a client is told that was not let in: the one map from decisions and failed logins to answers.

use gossip::access::{Action, Challenge, Denial, Principal};
use http::{HeaderMap, HeaderValue, header};
use oci::{
    error::{ApiError, ErrorCode},
    name::RepositoryName,
};

use super::operation::Need;
use crate::{
    Scheme,
    identity::{AuthError, Identity, LoginError},
};

/// Seconds after which a login that was turned away may come again.
const BUSY_RETRY: u32 = 2;

/// Says where tokens are had.
#[derive(Debug)]
pub(crate) struct Challenger {
    realm: String,
    service: String,
}

impl Challenger {
    pub(crate) fn new(identity: &Identity, headers: &HeaderMap) -> Self {
        let settings = &identity.settings;
        let realm = settings.realm.clone().unwrap_or_else(|| realm(identity.scheme, headers));
        Self { realm, service: settings.service.clone() }
    }

    /// `WWW-Authenticate` for the administration API.
    pub(crate) fn administration(&self) -> HeaderValue {
        let text =
            format!(r#"Bearer realm="{}",service="{}",scope="registry:api:*""#, self.realm, self.service);
        HeaderValue::from_str(&text).expect("all parts are visible ASCII")
    }

    /// More has to be shown.
    pub(super) fn challenge(&self, challenge: Challenge, need: Need<'_>) -> ApiError {
        let (message, error) = match challenge {
            Challenge::Credentials => ("say who you are: log in, or ask for an anonymous token", None),
            Challenge::Scope => ("the token was not made for this", Some("insufficient_scope")),
        };
        ErrorCode::Unauthorized.error(message).header(header::WWW_AUTHENTICATE, self.bearer(need, error))
    }

    /// It is not known who is asking.
    pub(super) fn unknown(&self, error: &AuthError, need: Need<'_>) -> ApiError {
        match error {
            AuthError::Login(LoginError::Wrong) | AuthError::Unreadable => ErrorCode::Unauthorized
                .error(error.to_string())
                .header(header::WWW_AUTHENTICATE, self.bearer(need, None)),
            AuthError::Token(_) | AuthError::Revoked => ErrorCode::Unauthorized
                .error(error.to_string())
                .header(header::WWW_AUTHENTICATE, self.bearer(need, Some("invalid_token"))),
            AuthError::Login(error) => turned_away(error),
            AuthError::Database(error) => ApiError::from(&**error),
        }
    }

    /// `WWW-Authenticate` of the token specification. Everything in it is free of quotes: the realm and the service are
    /// checked, names are what their grammar allows.
    fn bearer(&self, need: Need<'_>, error: Option<&str>) -> HeaderValue {
        let mut text = format!(r#"Bearer realm="{}",service="{}""#, self.realm, self.service);
        let scope = match need {
            Need::Presence => None,
            Need::Catalog => Some("registry:catalog:*".to_owned()),
            Need::In(repository, action) => Some(format!("repository:{repository}:{}", wanted(action))),
        };
        if let Some(scope) = scope {
            text.push_str(&format!(r#",scope="{scope}""#));
        }
        if let Some(error) = error {
            text.push_str(&format!(r#",error="{error}""#));
        }
        HeaderValue::from_str(&text).expect("all parts are visible ASCII")
    }
}

/// What a token has to be asked for.
fn wanted(action: Action) -> &'static str {
    match action {
        Action::Push => "pull,push",
        Action::Delete => "delete",
        Action::Pull
        | Action::Stat
        | Action::See
        | Action::Label
        | Action::ManageRobots
        | Action::ManageMembers
        | Action::ManageProject => "pull",
    }
}

/// A login that was not looked at, or could not be.
pub(crate) fn turned_away(error: &LoginError) -> ApiError {
    match error {
        LoginError::Wrong => ErrorCode::Unauthorized.error(error.to_string()),
        LoginError::Later(wait) => {
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
            ErrorCode::TooManyRequests.error(error.to_string()).retry_after(seconds)
        }
        LoginError::Busy => ErrorCode::Unavailable.error(error.to_string()).retry_after(BUSY_RETRY),
        LoginError::Database(error) => ApiError::from(&**error),
    }
}

/// It is known who is asking, and they may not.
pub(super) fn denied(denial: Denial, need: Need<'_>, principal: &Principal) -> ApiError {
    let name = principal.name();
    let Need::In(repository, action) = need else {
        return ErrorCode::Denied.error(match denial {
            Denial::Network => OUTSIDE,
            Denial::Unseen
            | Denial::Missing
            | Denial::Role { .. }
            | Denial::NotAmongActions
            | Denial::System => "this is not for you",
        });
    };
    let project = repository.project();
    match denial {
        Denial::Unseen => ErrorCode::Denied.error(unseen(repository, action, name)),
        Denial::Missing => ErrorCode::NameUnknown.error(format!(
            "there is no project {project}; make it with `roadstead project create {project}`"
        )),
        Denial::Role { needed } => ErrorCode::Denied.error(format!(
            "{name} may not do this in project {project}: it needs the role {needed}, which an owner gives with \
             `roadstead member add {project} {name} {needed}`"
        )),
        Denial::NotAmongActions => {
            ErrorCode::Denied.error(format!("the robot {name} was not made for this; see its --may"))
        }
        Denial::System => ErrorCode::Denied.error("this is for admins"),
        Denial::Network => ErrorCode::Denied.error(OUTSIDE),
    }
}

/// For a robot with networks of its own.
pub(crate) const OUTSIDE: &str = "this robot may not come from this address; see its --from";

/// One sentence for a private project and for none.
fn unseen(repository: &RepositoryName, action: Action, name: &str) -> String {
    let project = repository.project();
    let (verb, role) = match action {
        Action::Pull | Action::Stat | Action::See => ("pull from", "guest"),
        Action::Push => ("push to", "developer"),
        Action::Delete | Action::Label | Action::ManageRobots => ("delete from", "maintainer"),
        Action::ManageMembers | Action::ManageProject => ("manage", "owner"),
    };
    format!(
        "there is no project {project} that {name} may {verb}: an admin makes one with `roadstead project create \
         {project}`, and its owner lets {name} in with `roadstead member add {project} {name} {role}`"
    )
}

/// `/token` at the host that the client asked for. A proxy that ends TLS says so in `X-Forwarded-Proto`; anybody may
/// claim that, for an answer that only they see, and nobody can claim the opposite.
fn realm(scheme: Scheme, headers: &HeaderMap) -> String {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_host = |host: &&str| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b))
    };
    let host = text("host").filter(is_host).unwrap_or("localhost");
    let scheme = match (scheme, text("x-forwarded-proto")) {
        (Scheme::Https, _) | (Scheme::Http, Some("https")) => "https",
        (Scheme::Http, _) => "http",
    };
    format!("{scheme}://{host}/token")
}
