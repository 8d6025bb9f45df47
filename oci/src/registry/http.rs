//! One request and its answer: timeouts, redirects by hand, bounded bodies.
//!
//! Invariant: before every hop the URL is checked against the network policy, and each origin has
//! a client of its own whose resolver gives only addresses that may be connected to. Redirects
//! are followed for reading only, a few times, and credentials stay at the origin they were for.
//! It must never read a body without a limit, nor use a proxy that would resolve names for us.

use crate::{
    error::Error,
    network::{AddressRefused, NetworkPolicy, Origin, Resolver},
    printable::printable,
};
use bytes::Bytes;
use reqwest::{
    Client, Method, Response, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};
use std::{
    collections::HashMap,
    error::Error as StdError,
    sync::{Mutex, Once, PoisonError},
    time::Duration,
};
use url::Url;

/// Redirects that are followed: registries use one, to their blob store.
const HOPS_MAX: usize = 5;
/// Origins with open connections: registry, realm, blob store, for a handful of registries.
const CLIENTS_MAX: usize = 64;
/// How much of an error's body is read for its code and message.
const ERROR_BODY_BYTES_MAX: u64 = 64 << 10;

/// How long things may take, and how often they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// For a connection, with TLS.
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// For one request about a manifest, a list or a token, as a whole.
    pub answer: Duration,
    /// For one blob as a whole: 16 GiB at 10 MB/s are half an hour.
    pub blob: Duration,
    /// How often a request is made that gets 429, 502, 503, 504 or no connection.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles.
    pub backoff: Duration,
    /// The longest wait; a `Retry-After` beyond it is an error at once.
    pub wait_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            blob: Duration::from_secs(30 * 60),
            attempts: 4,
            backoff: Duration::from_millis(500),
            wait_max: Duration::from_secs(30),
        }
    }
}

/// A failed request, and whether trying again can help.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) again: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, again: false }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    /// What is asked for, for messages.
    pub(super) what: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// For the origin of `url` only.
    pub(super) authorization: Option<HeaderValue>,
    pub(super) whole: Duration,
}

/// An answer whose body was not read yet.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    /// Where it came from, after redirects.
    pub(super) origin: Origin,
}

/// Clients by origin.
#[derive(Debug)]
pub(super) struct Http {
    pub(super) policy: NetworkPolicy,
    pub(super) timing: Timing,
    clients: Mutex<HashMap<Origin, Client>>,
}

impl Http {
    pub(super) fn new(policy: NetworkPolicy, timing: Timing) -> Self {
        install_crypto();
        Self { policy, timing, clients: Mutex::default() }
    }

    /// One hop: the answer whatever its status.
    pub(super) async fn send_once(&self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let origin = self.policy.check(&ask.url, ask.what)?;
        let client = self.client(&origin, ask.what)?;
        let mut request = client
            .request(ask.method.clone(), ask.url.clone())
            .headers(ask.headers.clone())
            .timeout(ask.whole);
        if let Some(value) = &ask.authorization {
            request = request.header(header::AUTHORIZATION, value.clone());
        }
        if let Some(body) = &ask.body {
            request = request.body(body.clone());
        }
        let response = request.send().await.map_err(|error| failure(error, ask.what))?;
        tracing::debug!(
            http.method = %ask.method, http.url = shown(&ask.url),
            http.status = response.status().as_u16(),
            "the registry answered"
        );
        Ok(Answer { response, origin })
    }

    /// Follows redirects of a request that only reads.
    pub(super) async fn send(&self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let mut ask = ask.clone();
        for _ in 0..=HOPS_MAX {
            let answer = self.send_once(&ask).await?;
            let reads = matches!(ask.method, Method::GET | Method::HEAD);
            if !reads || !is_redirect(answer.response.status()) {
                return Ok(answer);
            }
            let next = redirect_target(&ask.url, &answer.response, ask.what)?;
            let origin = self.policy.check(&next, &format!("{} (redirected)", ask.what))?;
            if origin != answer.origin {
                // Gone for good, also if a later hop leads back.
                ask.authorization = None;
            }
            ask.url = next;
        }
        Err(Error::too_large(ask.what, HOPS_MAX as u64, "redirects", "more").into())
    }

    fn client(&self, origin: &Origin, what: &str) -> Result<Client, Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(origin) {
            return Ok(client.clone());
        }
        if clients.len() >= CLIENTS_MAX {
            clients.clear(); // their connections close; what is under way goes on
        }
        let client = self.build(origin, what)?;
        clients.insert(origin.clone(), client.clone());
        Ok(client)
    }

    fn build(&self, origin: &Origin, what: &str) -> Result<Client, Error> {
        let exception = self.policy.exception(origin);
        let mut builder = Client::builder()
            .user_agent(concat!("assay/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .dns_resolver(Resolver { any_address: exception.is_some() })
            .connect_timeout(self.timing.connect)
            .read_timeout(self.timing.idle)
            .pool_idle_timeout(Duration::from_secs(30));
        if origin.is_plain() {
            // No TLS will happen: do not even need the system's authorities.
            let none = rustls::RootCertStore::empty();
            let config =
                rustls::ClientConfig::builder().with_root_certificates(none).with_no_client_auth();
            builder = builder.tls_backend_preconfigured(config);
        } else if let Some(pem) = exception.and_then(|e| e.ca_pem.as_ref()) {
            let bad = |error: reqwest::Error| {
                let what = format!("the ca of {origin} in the policy");
                Error::malformed(what, "certificates in PEM", error.to_string())
            };
            let authorities = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(bad)?;
            builder = builder.tls_certs_only(authorities);
        }
        builder.build().map_err(|error| {
            Error::unavailable(what, format!("no TLS client could be made: {}", chain(&error)))
        })
    }
}

/// aws-lc-rs for the whole process, unless somebody chose before: two providers without a choice
/// make rustls panic at the first handshake.
pub(crate) fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn redirect_target(from: &Url, response: &Response, what: &str) -> Result<Url, Error> {
    let location = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
    let bad = |found: &str| Error::malformed(what, "a redirect with a Location", found);
    let location = location.ok_or_else(|| bad("none"))?;
    from.join(location).map_err(|_| bad(location))
}

/// A body of at most `max` bytes.
pub(super) async fn body(
    response: &mut Response,
    max: u64,
    what: &str,
) -> Result<Vec<u8>, Failure> {
    let announced = response.content_length();
    if let Some(announced) = announced.filter(|announced| *announced > max) {
        return Err(Error::too_large(what, max, "bytes", announced).into());
    }
    let mut bytes = Vec::new();
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(bytes),
            Err(error) => return Err(cut(error, announced, bytes.len() as u64, what)),
        };
        if (bytes.len() + chunk.len()) as u64 > max {
            return Err(Error::too_large(what, max, "bytes", "more").into());
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// The error of a body that did not come to its end.
pub(super) fn cut(
    error: reqwest::Error,
    announced: Option<u64>,
    found: u64,
    what: &str,
) -> Failure {
    match announced {
        Some(expected) if !error.is_timeout() && found < expected => Failure {
            error: Error::Truncated { what: what.to_owned(), expected, found },
            again: true,
        },
        _ => failure(error, what),
    }
}

/// The error of a request that got no answer.
fn failure(error: reqwest::Error, what: &str) -> Failure {
    let mut source: Option<&(dyn StdError + 'static)> = Some(&error);
    // Errors nest a handful deep; the bound is against a cycle.
    for _ in 0..16 {
        let Some(current) = source else { break };
        if let Some(refused) = current.downcast_ref::<AddressRefused>() {
            let (what, found) = (what.to_owned(), refused.to_string());
            return Error::NetworkRefused { what, found }.into();
        }
        source = current.source();
    }
    let cause = chain(&error);
    let again = !error.is_timeout() && !error.is_builder();
    Failure { error: Error::unavailable(what, cause), again }
}

/// An error with its causes; URLs are left out, because a query may hold a signature.
fn chain(error: &dyn StdError) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut source = Some(error);
    for _ in 0..16 {
        let Some(current) = source else { break };
        let text = current.to_string();
        let text = text.split(" for url (").next().unwrap_or_default().to_owned();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        source = current.source();
    }
    printable(&parts.join(": "))
}

/// The error that a status means. Reads a little of the body for the registry's own words.
pub(super) async fn status_error(mut answer: Answer, what: &str) -> Error {
    let status = answer.response.status().as_u16();
    let wait = retry_after(answer.response.headers());
    let words = body(&mut answer.response, ERROR_BODY_BYTES_MAX, what).await;
    let detail = words.ok().and_then(|bytes| registry_words(&bytes));
    let detail = detail.map_or(String::new(), |words| format!(" ({words})"));
    let what = what.to_owned();
    match status {
        401 | 403 => Error::Denied { what, status, detail },
        404 => Error::NotFound { what, detail },
        _ => {
            let words = wait.map(|wait| format!(", to be asked again in {} s", wait.as_secs()));
            let cause = format!("HTTP status {status}{detail}{}", words.unwrap_or_default());
            Error::Unavailable { what, cause, status: Some(status), retry_after: wait }
        }
    }
}

/// The first error of a registry's body: `{"errors":[{"code":"…","message":"…"}]}`.
pub(super) fn registry_words(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let first = value.get("errors")?.get(0)?;
    let text = |key: &str| first.get(key).and_then(|v| v.as_str()).unwrap_or_default();
    let words = printable(format!("{} {}", text("code"), text("message")).trim());
    (!words.is_empty()).then_some(words)
}

/// A URL for messages: without its query, which may hold a signature.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    printable(url.as_str())
}

/// Waits between attempts.
pub(super) struct Backoff<'a> {
    timing: &'a Timing,
    attempt: u32,
}

impl<'a> Backoff<'a> {
    pub(super) fn new(timing: &'a Timing) -> Self {
        Self { timing, attempt: 1 }
    }

    /// Waits before the next attempt, or gives the error back if there is none.
    pub(super) async fn wait(
        &mut self,
        error: Error,
        retry_after: Option<Duration>,
    ) -> Result<(), Error> {
        let doubled =
            self.timing.backoff.saturating_mul(1 << self.attempt.min(16).saturating_sub(1));
        let wait = retry_after.unwrap_or(doubled.min(self.timing.wait_max));
        if self.attempt >= self.timing.attempts || wait > self.timing.wait_max {
            return Err(error);
        }
        tracing::debug!(
            retry.attempt = self.attempt, retry.wait_ms = wait.as_millis() as u64, error = %error,
            "the registry is asked again"
        );
        self.attempt += 1;
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// True for statuses that say "not now".
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let format = &time::format_description::well_known::Rfc2822;
    let date = time::OffsetDateTime::parse(text, format).ok()?;
    let wait = date - time::OffsetDateTime::now_utc();
    Some(Duration::from_secs(wait.whole_seconds().max(0).unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_as_the_server_says() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            retry_after(&headers)
        };
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(of("Fri, 01 Jan 2100 00:00:00 GMT").unwrap() > Duration::from_secs(1 << 30));
        assert_eq!(of("soon"), None);
    }

    #[test]
    fn words_of_a_registry_are_cleaned() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"\u001b[31mno"}]}"#;
        assert_eq!(registry_words(body).unwrap(), "MANIFEST_UNKNOWN \u{fffd}[31mno");
        assert_eq!(registry_words(b"<html>"), None);
    }
}
