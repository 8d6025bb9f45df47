//! Who may use the registry: Basic, or tokens from a realm.
//!
//! Invariant: without the right credential, or a token that was issued for it, every path below
//! `/v2/` answers 401 with the challenge. The realm is the registry itself, or wherever the test
//! says, to see what a client sends there.

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::any,
};
use base64::Engine as _;
use serde_json::json;
use std::net::SocketAddr;

/// The token that the realm of a test gives.
const TOKEN: &str = "a-token-of-the-test";

/// Where tokens are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Realm {
    /// No tokens: Basic.
    None,
    /// At the registry itself, under `/token`.
    Own,
    /// At this URL.
    At(String),
}

/// Who may read and write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The user's name; empty: anybody gets a token.
    pub user: String,
    /// The password.
    pub password: String,
    /// Where tokens are given.
    pub realm: Realm,
}

#[derive(Debug, Clone)]
struct Guard {
    access: Access,
    challenge: String,
}

impl Access {
    fn basic(&self) -> String {
        let pair = format!("{}:{}", self.user, self.password);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }
}

/// Puts the access rules before a registry's routes.
pub(super) fn protect(app: Router, access: Access, addr: SocketAddr, tls: bool) -> Router {
    let scheme = if tls { "https" } else { "http" };
    let challenge = match &access.realm {
        Realm::None => "Basic realm=\"the test\"".to_owned(),
        Realm::Own => format!("Bearer realm=\"{scheme}://{addr}/token\",service=\"the-test\""),
        Realm::At(url) => format!("Bearer realm=\"{url}\",service=\"the-test\""),
    };
    let guard = Guard { access, challenge };
    let token = Router::new().route("/token", any(give_token)).with_state(guard.clone());
    let guarded = app.layer(middleware::from_fn_with_state(guard, check));
    token.fallback_service(guarded)
}

async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let wanted = match guard.access.realm {
        Realm::None => guard.access.basic(),
        _ => format!("Bearer {TOKEN}"),
    };
    if given == Some(wanted.as_str()) {
        return next.run(request).await;
    }
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, guard.challenge)], body).into_response()
}

async fn give_token(
    State(guard): State<Guard>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let given = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let by_refresh = body.contains(&format!("refresh_token={}", guard.access.password))
        && body.contains("grant_type=refresh_token");
    let anybody = guard.access.user.is_empty();
    if anybody || by_refresh || given == Some(guard.access.basic().as_str()) {
        let asked = uri.query().unwrap_or(&body).to_owned();
        return Json(json!({ "token": TOKEN, "expires_in": 300, "asked": asked })).into_response();
    }
    (StatusCode::UNAUTHORIZED, "{}").into_response()
}
