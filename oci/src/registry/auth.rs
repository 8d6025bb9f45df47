//! Answers to `401`: Basic, and the token scheme of the distribution project.
//!
//! Invariant: credentials go to the registry's own origin, or to the realm that this registry is
//! known to have ([`KNOWN_REALMS`]); a realm anywhere else is asked anonymously, whatever the
//! registry says. The scope is ours, never the server's: it names the repository we asked for.
//! Realms are spoken to under the same network policy, and their redirects are not followed.

use super::{
    challenge::{self, Challenge},
    credentials::{Credential, Lookup},
    http::{self, Answer, Ask, Http},
};
use crate::{error::Error, network::Origin, registry::credentials::Credentials};
use base64::Engine as _;
use bytes::Bytes;
use reqwest::{
    Method,
    header::{self, HeaderMap, HeaderValue},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use url::{Url, form_urlencoded};

/// Services whose realm has another host than their registry, by their own documentation.
const KNOWN_REALMS: &[(&str, &str)] = &[
    ("registry-1.docker.io", "auth.docker.io"),
    ("index.docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
];
/// A token's answer: tokens with many scopes reach 10 KB.
const TOKEN_BODY_BYTES_MAX: u64 = 256 << 10;
/// Tokens kept at once.
const TOKENS_MAX: usize = 1024;
/// A token's life where the realm says none (token specification).
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// The longest life that is believed.
const TOKEN_LIFE_MAX: Duration = Duration::from_secs(3600);
/// How long before its end a token is no longer used.
const TOKEN_SLACK: Duration = Duration::from_secs(5);

/// What is to be done in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Pull,
    Push,
}

impl Action {
    fn words(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push,delete",
        }
    }
}

/// For whom authorization is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    /// The host as references write it.
    pub(super) host: String,
    /// The repository's path on the host.
    pub(super) path: String,
    pub(super) action: Action,
}

/// Authorization headers that are still valid.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    known: Mutex<HashMap<Scope, (HeaderValue, Instant)>>,
}

impl Tokens {
    pub(super) fn get(&self, scope: &Scope) -> Option<HeaderValue> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(scope).filter(|(_, end)| *end > Instant::now()).map(|(value, _)| value.clone())
    }

    fn put(&self, scope: &Scope, value: &HeaderValue, life: Duration) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TOKENS_MAX {
            known.clear();
        }
        let life = life.min(TOKEN_LIFE_MAX).saturating_sub(TOKEN_SLACK);
        known.insert(scope.clone(), (value.clone(), Instant::now() + life));
    }
}

/// The header that answers a 401 of `origin`; none if there is nothing that we could answer.
/// The second part says why an anonymous answer was all that was possible.
pub(super) async fn answer(
    http: &Http,
    credentials: &Credentials,
    tokens: &Tokens,
    refused: &Answer,
    scope: &Scope,
) -> Result<(Option<HeaderValue>, String), Error> {
    let headers = refused.response.headers().get_all(header::WWW_AUTHENTICATE);
    let challenges: Vec<Challenge> = headers
        .iter()
        .take(8)
        .filter_map(|value| value.to_str().ok())
        .flat_map(challenge::parse)
        .collect();
    let bearer = challenges.iter().find_map(|challenge| match challenge {
        Challenge::Bearer { realm, service } => Some((realm, service)),
        Challenge::Basic => None,
    });
    let found = credentials.for_host(&scope.host).await;
    if let Some((realm, service)) = bearer {
        let (value, life, note) =
            token(http, &refused.origin, realm, service.as_deref(), scope, found).await?;
        tokens.put(scope, &value, life);
        return Ok((Some(value), note));
    }
    let note = found.note.map_or(String::new(), |note| format!("; {note}"));
    match found.credential {
        Some(Credential::Password { user, password }) if challenges.contains(&Challenge::Basic) => {
            let value = basic(&user, &password);
            tokens.put(scope, &value, TOKEN_LIFE);
            Ok((Some(value), note))
        }
        Some(_) => Ok((None, format!("; the registry offers no scheme for our credential{note}"))),
        None => Ok((None, format!("; there is no credential for {}{note}", scope.host))),
    }
}

fn basic(user: &str, password: &str) -> HeaderValue {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    secret(&format!("Basic {pair}")).unwrap_or(HeaderValue::from_static("Basic"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// True if the credentials of `registry` may be sent to `realm`.
fn may_have_credentials(registry: &Origin, realm: &Origin) -> bool {
    let known = (registry.host(), realm.host());
    registry == realm
        || KNOWN_REALMS.iter().any(|(from, to)| {
            *from == known.0
                && *to == known.1
                && registry.to_string() == format!("https://{from}:443")
                && realm.to_string() == format!("https://{to}:443")
        })
}

async fn token(
    http: &Http,
    registry: &Origin,
    realm: &str,
    service: Option<&str>,
    scope: &Scope,
    found: Lookup,
) -> Result<(HeaderValue, Duration, String), Error> {
    let what = format!("a token for {}/{}", scope.host, scope.path);
    let mut url = Url::parse(realm)
        .map_err(|error| Error::malformed(&what, "a realm that is a URL", error.to_string()))?;
    let origin = http.policy.check(&url, &what)?;
    let mut note = found.note.map_or(String::new(), |note| format!("; {note}"));
    let credential = match found.credential {
        Some(_) if !may_have_credentials(registry, &origin) => {
            note.push_str(&format!("; our credential was not sent to the realm at {origin}"));
            None
        }
        other => other,
    };
    let asked = format!("repository:{}:{}", scope.path, scope.action.words());
    let mut ask = Ask {
        method: Method::GET,
        url: url.clone(),
        what: &what,
        headers: HeaderMap::new(),
        body: None,
        authorization: None,
        whole: http.timing.answer,
    };
    match credential {
        Some(Credential::IdentityToken(refresh)) => {
            let form = form_urlencoded::Serializer::new(String::new())
                .extend_pairs([("grant_type", "refresh_token"), ("client_id", "assay")])
                .append_pair("service", service.unwrap_or_default())
                .append_pair("scope", &asked)
                .append_pair("refresh_token", &refresh)
                .finish();
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            ask.headers.insert(header::CONTENT_TYPE, kind);
            (ask.method, ask.body) = (Method::POST, Some(Bytes::from(form)));
        }
        other => {
            url.query_pairs_mut().append_pair("scope", &asked);
            if let Some(service) = service {
                url.query_pairs_mut().append_pair("service", service);
            }
            ask.url = url;
            if let Some(Credential::Password { user, password }) = other {
                ask.authorization = Some(basic(&user, &password));
            }
        }
    }
    let (value, life) = ask_realm(http, &ask, &note).await?;
    Ok((value, life, note))
}

async fn ask_realm(
    http: &Http,
    ask: &Ask<'_>,
    note: &str,
) -> Result<(HeaderValue, Duration), Error> {
    let what = ask.what;
    let mut answer = http.send_once(ask).await.map_err(|failure| failure.error)?;
    if !answer.response.status().is_success() {
        return Err(match http::status_error(answer, what).await {
            Error::Denied { what, status, detail } => {
                Error::Denied { what, status, detail: format!("{detail}{note}") }
            }
            // A realm that is not there is a broken answer, not "there is no such image".
            Error::NotFound { what, detail } => {
                let cause = format!("HTTP status 404{detail}");
                Error::Unavailable { what, cause, status: Some(404), retry_after: None }
            }
            other => other,
        });
    }
    let bytes = http::body(&mut answer.response, TOKEN_BODY_BYTES_MAX, what).await;
    let bytes = bytes.map_err(|failure| failure.error)?;
    let malformed = || Error::malformed(what, "a JSON object with a token", "another answer");
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
    let token = text("token").or(text("access_token")).ok_or_else(malformed)?;
    let life = value.get("expires_in").and_then(Value::as_u64).map(Duration::from_secs);
    let header = secret(&format!("Bearer {token}")).ok_or_else(malformed)?;
    Ok((header, life.unwrap_or(TOKEN_LIFE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NetworkPolicy;

    #[test]
    fn only_the_own_origin_and_known_realms_get_credentials() {
        let policy = NetworkPolicy::default();
        let origin = |url: &str| policy.check(&Url::parse(url).unwrap(), "the test").unwrap();
        for (registry, realm, allowed) in [
            ("https://r.example/", "https://r.example/token", true),
            ("https://registry-1.docker.io/", "https://auth.docker.io/token", true),
            ("https://registry.gitlab.com/", "https://gitlab.com/jwt/auth", true),
            ("https://r.example/", "https://r.example:8443/token", false),
            ("https://r.example/", "https://auth.r.example/token", false),
            ("https://r.example/", "https://auth.docker.io/token", false),
            ("https://registry-1.docker.io:5000/", "https://auth.docker.io/token", false),
            ("https://auth.docker.io/", "https://registry-1.docker.io/", false),
        ] {
            let result = may_have_credentials(&origin(registry), &origin(realm));
            assert_eq!(result, allowed, "{registry} {realm}");
        }
    }
}
