//! Which hosts may be spoken to: the guard against server-side request forgery.
//!
//! A hostile image, registry or token realm must not make a verifier talk to its own network.
//! Invariant: without an exception only public addresses, only over HTTPS. Names are resolved here
//! and the connection goes to the addresses that were checked, so a second answer of the name
//! server cannot slip in. An exception counts for exactly its host and port.
//! Sources: IANA special-purpose address registries (RFC 6890 and its updates).

use crate::error::Error;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use url::{Host, Url};

/// Exceptions for network safety, as the policy's `[[registry]]` tables say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkPolicy {
    /// The exceptions.
    pub hosts: Vec<HostException>,
}

/// One host that may be private, loopback, plain HTTP, or signed by a private authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostException {
    /// Host and port as in references: `127.0.0.1:5000`; without a port, the scheme's.
    pub host: String,
    /// Plain HTTP instead of TLS.
    pub plain_http: bool,
    /// PEM of the authority that signs the host's certificate, instead of the public ones.
    pub ca_pem: Option<String>,
}

/// Scheme, host and port: what credentials and connections belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    plain: bool,
    host: Host,
    port: u16,
}

impl Origin {
    /// True for plain HTTP.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// The host without its port.
    pub fn host(&self) -> String {
        self.host.to_string()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.plain { "http" } else { "https" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl HostException {
    /// True for the origin that it names, in whatever spelling (`:443`, capitals).
    pub fn is_for(&self, origin: &Origin) -> bool {
        let scheme = if self.plain_http { "http" } else { "https" };
        let url = Url::parse(&format!("{scheme}://{}/", self.host));
        url.is_ok_and(|url| {
            url.host().is_some_and(|host| host.to_owned() == origin.host)
                && url.port_or_known_default() == Some(origin.port)
                && self.plain_http == origin.plain
        })
    }
}

impl NetworkPolicy {
    /// The exception for this origin, if there is one.
    pub fn exception(&self, origin: &Origin) -> Option<&HostException> {
        self.hosts.iter().find(|exception| exception.is_for(origin))
    }

    /// The base URL of a registry's host as references write it.
    pub fn base_url(&self, host: &str) -> Result<Url, Error> {
        let parse = |scheme: &str| {
            Url::parse(&format!("{scheme}://{host}/")).map_err(|error| {
                Error::malformed(
                    host,
                    "a host like registry.example or 127.0.0.1:5000",
                    error.to_string(),
                )
            })
        };
        let plain = parse("http")?;
        match self.check(&plain, host) {
            Ok(_) => Ok(plain),
            Err(_) => parse("https"),
        }
    }

    /// Checks scheme, user part and literal addresses of a URL. Names are checked when they are
    /// resolved for a connection.
    pub fn check(&self, url: &Url, what: &str) -> Result<Origin, Error> {
        let refuse = |found: String| Error::NetworkRefused {
            what: what.to_owned(),
            found: crate::printable::printable(&found),
        };
        let plain = match url.scheme() {
            "https" => false,
            "http" => true,
            other => return Err(refuse(format!("the scheme {other:?}"))),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("a URL with a user name or password in it".into()));
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(refuse("a URL without a host".into()));
        };
        let origin = Origin { plain, host: host.to_owned(), port };
        if self.exception(&origin).is_some() {
            return Ok(origin);
        }
        if plain {
            return Err(refuse(format!("plain HTTP to {host}:{port}")));
        }
        let literal = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        match literal.map(|address| (address, refusal(address))) {
            Some((address, Some(why))) => Err(refuse(format!("{address}, {why}"))),
            _ => Ok(origin),
        }
    }
}

/// Why an address is not public; none if it is.
pub fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refusal_v4(address),
        IpAddr::V6(address) => refusal_v6(address),
    }
}

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    let why = match address.octets() {
        [0, ..] => "an address of this network",
        [127, ..] => "a loopback address",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "a private address",
        [100, 64..=127, ..] => "a shared (carrier-grade NAT) address",
        [169, 254, ..] => "a link-local address",
        [192, 0, 0, _] => "a protocol assignment",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "a documentation address",
        [192, 88, 99, _] => "a 6to4 relay address",
        [198, 18..=19, ..] => "a benchmarking address",
        [224..=239, ..] => "a multicast address",
        [240..=255, ..] => "a reserved or broadcast address",
        _ => return None,
    };
    Some(why)
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        refusal_v4(Ipv4Addr::new(a, b, c, d))
    };
    let why = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => "the unspecified address",
        [0, 0, 0, 0, 0, 0, 0, 1] => "a loopback address",
        // IPv4 in IPv6: mapped and NAT64 go where their IPv4 address goes.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            return embedded(high, low);
        }
        [0x2002, ..] => "a 6to4 address",
        [0x2001, 0, ..] => "a Teredo address",
        [0x2001, 2, 0, ..] => "a benchmarking address",
        [0x2001, 0x10..=0x2f, ..] => "an ORCHID identifier",
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => "a documentation address",
        [0xfc00..=0xfdff, ..] => "a unique local address",
        [0xfe80..=0xfeff, ..] => "a link-local or site-local address",
        [0xff00..=0xffff, ..] => "a multicast address",
        // Everything that is given out to the public begins with the bits 001.
        [0x2000..=0x3fff, ..] => return None,
        _ => "a reserved address",
    };
    Some(why)
}

/// A name resolved only to addresses that must not be spoken to.
#[derive(Debug, thiserror::Error)]
#[error("{name} is {address}, {why}")]
pub(crate) struct AddressRefused {
    name: String,
    address: IpAddr,
    why: &'static str,
}

/// Resolves names for one origin, and gives only addresses that may be connected to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolver {
    /// The origin has an exception: any address.
    pub(crate) any_address: bool,
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let any_address = self.any_address;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed = only_allowed(name.as_str(), found, any_address)?;
            Ok(Box::new(allowed.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// The addresses that may be connected to; an error that names one if there are only others.
fn only_allowed(
    name: &str,
    found: impl Iterator<Item = SocketAddr>,
    any_address: bool,
) -> Result<Vec<SocketAddr>, AddressRefused> {
    let mut refused = None;
    let mut allowed = Vec::new();
    for address in found {
        match refusal(address.ip()) {
            Some(why) if !any_address => {
                let (name, address) = (name.to_owned(), address.ip());
                refused = Some(AddressRefused { name, address, why });
            }
            _ => allowed.push(address),
        }
    }
    match refused {
        Some(refused) if allowed.is_empty() => Err(refused),
        _ => Ok(allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_addresses() {
        for (text, public) in [
            ("8.8.8.8", true),
            ("172.15.255.255", true),
            ("172.32.0.0", true),
            ("100.63.255.255", true),
            ("100.128.0.0", true),
            ("223.255.255.255", true),
            ("2606:4700::1111", true),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::808:808", true),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("127.255.255.255", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.8", false),
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.168.1.1", false),
            ("198.19.0.1", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::7f00:1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b:1::1", false),
            ("100::1", false),
            ("2001::1", false),
            ("2001:2::1", false),
            ("2001:db8::1", false),
            ("2002:7f00:1::", false),
            ("3fff::1", false),
            ("5f00::1", false),
            ("fc00::1", false),
            ("fd12::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(refusal(text.parse().unwrap()).is_none(), public, "{text}");
        }
    }

    #[test]
    fn urls_are_checked_by_what_they_mean_not_by_how_they_look() {
        let policy = NetworkPolicy {
            hosts: vec![
                HostException { host: "127.0.0.1:5000".into(), plain_http: true, ca_pem: None },
                HostException { host: "registry.lan".into(), plain_http: false, ca_pem: None },
            ],
        };
        for (url, allowed) in [
            ("https://registry.example/v2/", true),
            ("https://8.8.8.8/", true),
            ("http://127.0.0.1:5000/v2/", true),
            ("http://0x7f.1:5000/v2/", true), // the same address, spelled otherwise
            ("https://registry.lan/", true),
            ("https://127.0.0.1:5000/", false),
            ("http://127.0.0.1:5001/", false),
            ("http://127.0.0.1/", false),
            ("https://2130706433/", false),
            ("https://0x7f000001/", false),
            ("https://[::ffff:127.0.0.1]/", false),
            ("https://[::1]/", false),
            ("https://169.254.169.254/latest/meta-data", false),
            ("http://registry.example/", false),
            ("http://registry.lan/", false),
            ("https://user:word@registry.example/", false),
            ("ftp://registry.example/", false),
            ("file:///etc/passwd", false),
        ] {
            let result = policy.check(&Url::parse(url).unwrap(), "the test");
            assert_eq!(result.is_ok(), allowed, "{url}: {result:?}");
        }
        assert_eq!(policy.base_url("127.0.0.1:5000").unwrap().scheme(), "http");
        assert_eq!(policy.base_url("127.0.0.1:5001").unwrap().scheme(), "https");
    }

    #[test]
    fn names_give_public_addresses_or_an_error() {
        let addresses = |all: &[&str]| -> Vec<SocketAddr> {
            all.iter().map(|a| SocketAddr::new(a.parse().unwrap(), 0)).collect()
        };
        let mixed = addresses(&["10.0.0.1", "8.8.8.8", "::1"]);
        let allowed = only_allowed("x", mixed.clone().into_iter(), false).unwrap();
        assert_eq!(allowed, addresses(&["8.8.8.8"]));
        assert_eq!(only_allowed("x", mixed.into_iter(), true).unwrap().len(), 3);
        let error = only_allowed("x", addresses(&["192.168.0.1"]).into_iter(), false).unwrap_err();
        assert_eq!(error.to_string(), "x is 192.168.0.1, a private address");
    }
}
