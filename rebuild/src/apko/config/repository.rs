//! A repository as a configuration writes it: `https://…`, or `@edge https://…` with a pin.
//!
//! Invariant: what is fetched is the address; the pin only says which packages may be taken from
//! there, and who asks for them by `name@edge`.

/// One repository, split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinnedRepository<'a> {
    /// `edge`; empty for most.
    pub pin: &'a str,
    /// A URL or a path, without its trailing slashes.
    pub address: &'a str,
}

impl<'a> PinnedRepository<'a> {
    /// Splits a text; none where there is a pin and nothing behind it.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (pin, address) = match text.strip_prefix('@') {
            None => ("", text),
            Some(rest) => rest.split_once(char::is_whitespace)?,
        };
        let address = address.trim().trim_end_matches('/');
        (!address.is_empty()).then_some(Self { pin, address })
    }

    /// True for what is read over the network.
    pub fn is_remote(&self) -> bool {
        ["https://", "http://"].iter().any(|scheme| self.address.starts_with(scheme))
    }
}

#[cfg(test)]
mod tests {
    use super::PinnedRepository;

    #[test]
    fn pin_and_address() {
        for (text, pin, address, remote) in [
            ("https://a.test/x/", "", "https://a.test/x", true),
            ("@edge https://a.test/x", "edge", "https://a.test/x", true),
            ("@local\t /srv/x/", "local", "/srv/x", false),
            ("ftp://a.test/x", "", "ftp://a.test/x", false),
        ] {
            let parsed = PinnedRepository::parse(text).unwrap();
            assert_eq!((parsed.pin, parsed.address, parsed.is_remote()), (pin, address, remote));
        }
        for bad in ["@edge", "@edge ", "", "/"] {
            assert_eq!(PinnedRepository::parse(bad), None, "{bad:?}");
        }
    }
}
