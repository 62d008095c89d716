//! `/token`: where clients get access tokens (token specification of the distribution project), and the public keys.
//!
//! To grant less than was asked for is no error; wrong credentials are.

use std::{net::IpAddr, sync::Arc};

use gossip::access::{Decision, Scopes, Shown};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use oci::{
    error::{ApiError, ErrorCode},
    http::{Body, RequestBody, error_response, json_response},
    route::Query,
};
use serde::Serialize;

use super::{
    gate::{address, decide_for, may_come},
    refusal::{OUTSIDE, turned_away},
};
use crate::{
    database::Error,
    identity::{AuthError, Caller, Credentials, Identity, Issued, Lasting},
    settings::Secret,
};

/// The longest form that is read, in bytes.
const MAX_FORM: usize = 64 * 1024;

/// The token specification's answer, with the names of OAuth 2 beside the older ones.
#[derive(Serialize)]
struct Granted<'a> {
    token: &'a str,
    access_token: &'a str,
    expires_in: u64,
    issued_at: String,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
}

/// What a client asks for.
struct Wanted {
    scopes: Scopes,
    /// Whether any scope was named, one of ours or not.
    named: bool,
    lasting: Stay,
}

/// Whether a client wants something to keep instead of the password.
enum Stay {
    No,
    New,
    /// It showed this, and keeps it.
    Same(Secret),
}

impl Wanted {
    fn of(fields: &Query, lasting: Stay) -> Self {
        let named = fields.all("scope").any(|scope| !scope.is_empty());
        Self { scopes: Scopes::parse(fields.all("scope")), named, lasting }
    }
}

/// Answers `/token`.
pub(crate) async fn answer(identity: &Identity, request: Request<RequestBody>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let from = address(&parts);
    let answered = match parts.method {
        Method::GET => {
            get(identity, &Query::parse(parts.uri.query()), &Credentials::of(&parts.headers), from).await
        }
        Method::POST => post(identity, body, from).await,
        _ => Err(ErrorCode::Unsupported
            .error("tokens are had by GET or POST")
            .header(header::ALLOW, HeaderValue::from_static("GET, POST"))),
    };
    let mut response = answered.unwrap_or_else(|error| error_response(&error));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Answers `/.well-known/jwks.json`.
pub(crate) fn keys(identity: &Identity) -> Response<Body> {
    let jwks = identity.keys.ring().verifying.jwks();
    json_response(StatusCode::OK, serde_json::to_vec(&jwks).expect("strings serialize"))
}

async fn get(
    identity: &Identity,
    query: &Query,
    credentials: &Credentials,
    from: Option<IpAddr>,
) -> Result<Response<Body>, ApiError> {
    check_service(identity, query)?;
    let caller = match credentials {
        Credentials::None | Credentials::Basic { .. } => identity.authenticate(credentials, from).await,
        // A token is no way to another one.
        Credentials::Bearer(_) | Credentials::Unreadable => Err(AuthError::Unreadable),
    };
    let caller = caller.map_err(|error| refused(&error))?;
    let offline = query.get("offline_token") == Some("true");
    let lasting = if offline && caller.account().is_some() { Stay::New } else { Stay::No };
    grant(identity, &caller, Wanted::of(query, lasting)).await
}

async fn post(
    identity: &Identity,
    body: RequestBody,
    from: Option<IpAddr>,
) -> Result<Response<Body>, ApiError> {
    let form =
        body.collect(MAX_FORM).await.map_err(|error| ErrorCode::BadRequest.error(error.to_string()))?;
    let form =
        std::str::from_utf8(&form).map_err(|_bytes| ErrorCode::BadRequest.error("the form is not text"))?;
    let form = Query::parse(Some(form));
    check_service(identity, &form)?;
    let field = |name: &'static str| {
        form.get(name)
            .map(str::to_owned)
            .ok_or_else(|| ErrorCode::BadRequest.error(format!("the form lacks {name}")))
    };
    let (caller, lasting) = match form.get("grant_type") {
        Some("password") => {
            let credentials =
                Credentials::Basic { name: field("username")?, secret: Secret::from(field("password")?) };
            let caller = identity.authenticate(&credentials, from).await.map_err(|error| refused(&error))?;
            let offline = form.get("access_type") == Some("offline");
            (caller, if offline { Stay::New } else { Stay::No })
        }
        Some("refresh_token") => {
            let token = Secret::from(field("refresh_token")?);
            let account = identity.account_of_refresh(&token).await.map_err(|error| refused(&error))?;
            (Caller::with_secret(account, from), Stay::Same(token))
        }
        _ => return Err(ErrorCode::BadRequest.error("grant_type is password or refresh_token")),
    };
    grant(identity, &caller, Wanted::of(&form, lasting)).await
}

/// A client that wants a token for another service is told so, not given one that does not work there.
fn check_service(identity: &Identity, query: &Query) -> Result<(), ApiError> {
    match query.get("service") {
        Some(service) if !service.is_empty() && service != identity.settings.service => {
            Err(ErrorCode::BadRequest
                .error(format!("this is the token service of {}", identity.settings.service)))
        }
        Some(_) | None => Ok(()),
    }
}

async fn grant(identity: &Identity, caller: &Caller, wanted: Wanted) -> Result<Response<Body>, ApiError> {
    if !may_come(caller.principal(), caller.from) {
        return Err(ErrorCode::Denied.error(OUTSIDE));
    }
    let scopes = granted(identity, caller, &wanted.scopes).await.map_err(|error| ApiError::from(&*error))?;
    let account = caller.account();
    // Whoever names no scope wants no repository: such a token is for the administration API.
    let scopes = if account.is_some() && !wanted.named { Scopes::administration() } else { scopes };
    let issued = identity.issue(account.map(|account| &**account), &scopes).ok_or_else(|| {
        tracing::error!("there is no key to sign tokens with");
        ErrorCode::Unavailable.error("the registry has no key to sign with").retry_after(1)
    })?;
    let refresh = match (wanted.lasting, account) {
        (Stay::New, Some(account)) => Some(identity.issue_refresh(account).await?),
        (Stay::Same(token), _) => Some(Lasting(token)),
        (Stay::New | Stay::No, _) => None,
    };
    Ok(document(&issued, &scopes, refresh.as_ref()))
}

/// What of the wanted scopes the caller may have now.
async fn granted(identity: &Identity, caller: &Caller, wanted: &Scopes) -> Result<Scopes, Arc<Error>> {
    let mut allowed = Vec::new();
    for repository in wanted.repositories() {
        for action in gossip::access::ContentAction::ALL.map(gossip::access::ContentAction::action) {
            // As if the token were there already: it is asked whether its owner may.
            let shown = if caller.account().is_some() { Shown::Secret } else { Shown::Token(wanted) };
            if decide_for(identity, caller, shown, repository, action).await? == Decision::Allow {
                allowed.push((repository.clone(), action));
            }
        }
    }
    Ok(wanted
        .keep(|repository, action| allowed.iter().any(|(name, may)| name == repository && *may == action)))
}

fn document(issued: &Issued, scopes: &Scopes, refresh: Option<&Lasting>) -> Response<Body> {
    let grants = scopes.grants();
    let scope =
        grants.iter().map(|grant| format!("{}:{}:{}", grant.kind, grant.name, grant.actions.join(",")));
    let granted = Granted {
        token: issued.token.expose(),
        access_token: issued.token.expose(),
        expires_in: issued.expires_in,
        issued_at: issued.issued_at.rfc3339(),
        scope: scope.collect::<Vec<_>>().join(" "),
        refresh_token: refresh.map(|token| token.0.expose()),
    };
    json_response(StatusCode::OK, serde_json::to_vec(&granted).expect("strings serialize"))
}

fn refused(error: &AuthError) -> ApiError {
    match error {
        AuthError::Login(error) => with_basic(turned_away(error)),
        AuthError::Token(_) | AuthError::Revoked | AuthError::Unreadable => {
            with_basic(ErrorCode::Unauthorized.error(error.to_string()))
        }
        AuthError::Database(error) => ApiError::from(&**error),
    }
}

/// A 401 says what would be taken instead (RFC 9110, section 15.5.2).
fn with_basic(error: ApiError) -> ApiError {
    if error.code() == ErrorCode::Unauthorized {
        return error.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"roadstead\""));
    }
    error
}
