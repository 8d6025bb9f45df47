//! Plain files over HTTPS by the same rules as registries: package indexes, packages, keys,
//! evidence of a coordinator.
//!
//! Invariant: the address is checked before every hop, the body is bounded, a cut body is an error;
//! "there is none" is said only for 404 and 410. No credentials are ever sent. Nothing is known of
//! the bytes: whoever asked must prove them.

use super::http::{self, Ask, Backoff, Failure, Http, Timing};
use crate::{error::Error, network::NetworkPolicy};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use reqwest::{Method, StatusCode, header::HeaderMap};
use std::io::{self, Read};
use tokio_util::io::{StreamReader, SyncIoBridge};
use url::Url;

/// Reads files from web servers.
#[derive(Debug)]
pub struct Fetcher {
    http: Http,
}

/// The body of an answer, not read yet.
pub struct FetchBody {
    stream: BoxStream<'static, io::Result<bytes::Bytes>>,
    bytes_max: u64,
    what: String,
}

impl Fetcher {
    /// A client under this network policy.
    pub fn new(policy: &NetworkPolicy) -> Result<Self, Error> {
        Ok(Self { http: Http::new(policy.clone(), Timing::default()) })
    }

    /// Opens a file; none where the server says definitely that there is none.
    pub async fn get(&self, url: &str, bytes_max: u64) -> Result<Option<FetchBody>, Error> {
        let parsed = Url::parse(url).map_err(|error| {
            Error::malformed("a file's address", "a URL like https://host/path", error.to_string())
        })?;
        let what = http::shown(&parsed);
        let ask = Ask {
            method: Method::GET,
            what: &what,
            headers: HeaderMap::new(),
            body: None,
            authorization: None,
            whole: self.http.timing.blob,
            url: parsed,
        };
        let mut backoff = Backoff::new(&self.http.timing);
        loop {
            let (error, retry_after) = match self.http.send(&ask).await {
                Ok(answer) => match answer.response.status() {
                    StatusCode::OK => return Ok(Some(FetchBody::new(answer, bytes_max, &what)?)),
                    StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
                    status if http::is_transient(status) => {
                        let wait = http::retry_after(answer.response.headers());
                        (http::status_error(answer, &what).await, wait)
                    }
                    _ => return Err(http::status_error(answer, &what).await),
                },
                Err(Failure { error, again: true }) => (error, None),
                Err(Failure { error, again: false }) => return Err(error),
            };
            backoff.wait(error, retry_after).await?;
        }
    }
}

impl FetchBody {
    fn new(answer: http::Answer, bytes_max: u64, what: &str) -> Result<Self, Error> {
        let announced = answer.response.content_length();
        if let Some(found) = announced.filter(|found| *found > bytes_max) {
            return Err(Error::too_large(what, bytes_max, "bytes", found));
        }
        let label = what.to_owned();
        let stream = answer
            .response
            .bytes_stream()
            .map_err(move |error| io::Error::other(http::cut(error, None, 0, &label).error));
        Ok(Self { stream: stream.boxed(), bytes_max, what: what.to_owned() })
    }

    /// All bytes, in memory.
    pub async fn into_bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.stream.next().await {
            let chunk = chunk.map_err(crate::blob::BlobReader::error_of)?;
            if (bytes.len() + chunk.len()) as u64 > self.bytes_max {
                return Err(Error::too_large(self.what, self.bytes_max, "bytes", "more"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// A reader for a thread that may block, inside a tokio runtime; it fails past the bound.
    pub fn into_blocking_reader(self) -> impl Read + Send {
        let bridge = SyncIoBridge::new(StreamReader::new(self.stream));
        Bounded { inner: bridge, left: self.bytes_max, what: self.what }
    }
}

/// Fails where `take` would silently end.
struct Bounded<R> {
    inner: R,
    left: u64,
    what: String,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("expected fewer bytes of {}, found more than the limit", self.what),
            )
        })?;
        Ok(read)
    }
}
