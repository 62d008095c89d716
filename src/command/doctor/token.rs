//! An anonymous token, as an engine without a login asks for one.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use oci::challenge::Challenge;
use serde::Deserialize;
use url::Url;

use crate::command::http::Http;

/// How long a token service may take.
const TOKEN: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// The header that answers a challenge to pull from `repository`.
///
/// # Errors
/// A sentence's rest: why there is none.
pub(super) async fn anonymous(
    http: &Http,
    challenge: Option<&str>,
    repository: &str,
) -> Result<HeaderValue, String> {
    let bearer = match challenge.and_then(Challenge::parse) {
        Some(Challenge::Bearer(bearer)) => bearer,
        Some(Challenge::Basic) => return Err("it wants user and password; this pull is anonymous".to_owned()),
        None => return Err("it answers 401 and does not say how to log in".to_owned()),
    };
    let mut url =
        Url::parse(&bearer.realm).map_err(|_why| format!("its realm {:?} is no address", bearer.realm))?;
    let scope = bearer.scope.unwrap_or_else(|| format!("repository:{repository}:pull"));
    url.query_pairs_mut().append_pair("scope", &scope);
    if let Some(service) = &bearer.service {
        url.query_pairs_mut().append_pair("service", service);
    }
    let answer =
        http.get(&url, HeaderMap::new(), TOKEN).await.map_err(|why| format!("{}: {why}", bearer.realm))?;
    if !answer.status().is_success() {
        return Err(format!(
            "{} answered {}; the repository may not be public",
            bearer.realm,
            answer.status()
        ));
    }
    let token: Token =
        serde_json::from_slice(answer.body()).map_err(|_why| format!("{} gave no token", bearer.realm))?;
    let token =
        token.token.or(token.access_token).ok_or_else(|| format!("{} gave no token", bearer.realm))?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_why| format!("{} gave a token that is no header's text", bearer.realm))?;
    value.set_sensitive(true);
    Ok(value)
}
