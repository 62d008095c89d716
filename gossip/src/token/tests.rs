//! Tokens that are taken, and every kind that is not.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::access::Scopes;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).expect("a seed")
}

fn claims() -> Claims {
    Claims {
        iss: "roadstead".to_owned(),
        sub: "ann".to_owned(),
        aud: "registry".to_owned(),
        exp: 1_300,
        nbf: 1_000,
        iat: 1_000,
        jti: "1".to_owned(),
        access: Scopes::parse(["repository:team/app:pull"]).grants(),
        account: Some(Account { id: 7, generation: 2 }),
    }
}

fn check(token: &str, now: u64) -> Result<Claims, InvalidToken> {
    let keys = VerifyingKeys::new(vec![key(1).public(), key(2).public()]);
    let expected =
        Expected { issuer: "roadstead", service: "registry", now, leeway: Duration::from_secs(10) };
    verify(token, &keys, &expected)
}

/// A token with that header, signed all the same.
fn with_header(header: &str, key: &SigningKey) -> String {
    let claims = serde_json::to_vec(&claims()).expect("serializes");
    let signed =
        format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

#[test]
fn a_token_says_what_was_put_in_between_its_times() {
    let token = sign(&claims(), &key(1));
    assert_eq!(check(&token, 1_000), Ok(claims()));
    assert_eq!(check(&sign(&claims(), &key(2)), 1_000), Ok(claims()), "of the key before");
    assert_eq!(check(&token, 990), Ok(claims()));
    assert_eq!(check(&token, 989), Err(InvalidToken::NotYet));
    assert_eq!(check(&token, 1_309), Ok(claims()));
    assert_eq!(check(&token, 1_310), Err(InvalidToken::Expired));
}

#[test]
fn tokens_of_others_and_for_others_are_refused() {
    assert_eq!(check(&sign(&claims(), &key(3)), 1_000), Err(InvalidToken::UnknownKey));
    let other = Claims { aud: "other".to_owned(), ..claims() };
    assert_eq!(check(&sign(&other, &key(1)), 1_000), Err(InvalidToken::Audience));
    let other = Claims { iss: "other".to_owned(), ..claims() };
    assert_eq!(check(&sign(&other, &key(1)), 1_000), Err(InvalidToken::Issuer));
    // The name of a known key over the signature of another.
    let stolen = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, key(1).id());
    assert_eq!(check(&with_header(&stolen, &key(3)), 1_000), Err(InvalidToken::Signature));
}

#[test]
fn the_algorithm_is_never_the_tokens_choice() {
    let kid = key(1).id().clone();
    for algorithm in ["none", "None", "NONE", "", "HS256", "HS512", "ES256", "RS256", "eddsa", "Ed25519"] {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#);
        assert_eq!(check(&with_header(&header, &key(1)), 1_000), Err(InvalidToken::Malformed), "{algorithm}");
    }
    let critical = format!(r#"{{"alg":"EdDSA","kid":"{kid}","crit":["x"],"x":1}}"#);
    assert_eq!(check(&with_header(&critical, &key(1)), 1_000), Err(InvalidToken::Malformed));
    // A key that the token brings along is not looked at.
    let own = serde_json::to_string(&key(3).public().jwk()).expect("serializes");
    let embedded = format!(r#"{{"alg":"EdDSA","kid":"{}","jwk":{own}}}"#, key(3).id());
    assert_eq!(check(&with_header(&embedded, &key(3)), 1_000), Err(InvalidToken::UnknownKey));
    let token = sign(&claims(), &key(1));
    let unsigned = token.rsplit_once('.').expect("three parts").0;
    for text in [format!("{unsigned}."), unsigned.to_owned(), format!("{token}."), format!("{token}=")] {
        assert!(check(&text, 1_000).is_err(), "{text}");
    }
}

#[test]
fn a_changed_token_is_refused_at_every_byte() {
    let token = sign(&claims(), &key(1));
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        assert!(check(&changed, 1_000).is_err(), "byte {at}");
    }
    assert_eq!(check(&"a".repeat(MAX_TOKEN + 1), 1_000), Err(InvalidToken::Malformed));
}

#[test]
fn published_keys_have_no_secret_half_and_debug_shows_none() {
    let jwks = serde_json::to_value(VerifyingKeys::new(vec![key(1).public()]).jwks()).expect("serializes");
    let key_json = jwks["keys"][0].as_object().expect("an object");
    let names: Vec<_> = key_json.keys().map(String::as_str).collect();
    assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!(format!("{:?}", key(1)), format!("SigningKey({})", key(1).id()));
}

proptest! {
    #[test]
    fn no_text_is_taken_for_a_token(text in ".{0,200}|[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}") {
        prop_assert!(check(&text, 1_000).is_err());
    }
}
