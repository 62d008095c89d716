//! `WWW-Authenticate` challenges (RFC 9110, section 11.6.1; Bearer parameters as in the distribution token specification).

/// How a registry wants to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from a token service.
    Bearer(Bearer),
}

/// Where a token is to be had, and for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bearer {
    /// The token service's URL.
    pub realm: String,
    /// Whom the token is for.
    pub service: Option<String>,
    /// What it must allow: `repository:a/b:pull`.
    pub scope: Option<String>,
    /// Why the last token was not enough: `insufficient_scope`, `invalid_token`.
    pub error: Option<String>,
}

impl Challenge {
    /// Reads one header's value, which may hold several challenges. Bearer is preferred to Basic; other schemes and a
    /// Bearer challenge without a realm are passed over.
    pub fn parse(header: &str) -> Option<Self> {
        let mut basic = None;
        let mut rest = header;
        while let Some((scheme, parameters, after)) = next_challenge(rest) {
            rest = after;
            if scheme.eq_ignore_ascii_case("bearer") {
                let bearer = bearer(&parameters);
                if !bearer.realm.is_empty() {
                    return Some(Self::Bearer(bearer));
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
        }
        basic
    }
}

type Parameters<'a> = Vec<(&'a str, String)>;

fn bearer(parameters: &Parameters<'_>) -> Bearer {
    let get = |name: &str| {
        let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    Bearer {
        realm: get("realm").unwrap_or_default(),
        service: get("service"),
        scope: get("scope"),
        error: get("error"),
    }
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn token(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|b| !is_token(b)).unwrap_or(text.len());
    text.split_at(end)
}

/// The scheme, its parameters, and what follows.
fn next_challenge(text: &str) -> Option<(&str, Parameters<'_>, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (scheme, mut rest) = token(text);
    if scheme.is_empty() {
        return None;
    }
    let mut parameters = Vec::new();
    loop {
        let at = rest.trim_start_matches([' ', '\t', ',']);
        let (key, after) = token(at);
        let Some(value) = after.trim_start().strip_prefix('=') else {
            // Not `key=`: the next challenge's scheme, or a token68, which neither Basic nor Bearer has here.
            return Some((scheme, parameters, at));
        };
        let (value, after) = value_of(value.trim_start());
        if !key.is_empty() {
            parameters.push((key, value));
        }
        rest = after;
    }
}

fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bearer_challenge_is_read_whole() {
        let header = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push",error="invalid_token""#;
        assert_eq!(
            Challenge::parse(header),
            Some(Challenge::Bearer(Bearer {
                realm: "https://auth.example/token".into(),
                service: Some("registry.example".into()),
                scope: Some("repository:a/b:pull,push".into()),
                error: Some("invalid_token".into()),
            }))
        );
    }

    #[test]
    fn bearer_is_preferred_wherever_it_stands() {
        let both = r#"Basic realm="a, b", Bearer realm="https://t/", service=plain"#;
        let Some(Challenge::Bearer(bearer)) = Challenge::parse(both) else { panic!("not taken for Bearer") };
        assert_eq!((bearer.realm.as_str(), bearer.service.as_deref()), ("https://t/", Some("plain")));
        assert_eq!(Challenge::parse("basic realm=x"), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Bearer service=x"), None);
        assert_eq!(Challenge::parse("Negotiate abc=="), None);
        assert_eq!(Challenge::parse(""), None);
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic_or_hang(header in r#"((Basic|Bearer)?[ ,="\\a-z\t=]{0,20}){0,8}|.{0,100}"#) {
            let _ = Challenge::parse(&header);
        }
    }
}
