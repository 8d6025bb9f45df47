//! `WWW-Authenticate` challenges (RFC 9110, section 11; the distribution project's token scheme).
//!
//! ```text
//! Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a:pull"
//! ```
//! Invariant: a header of any content is read in one pass, bounded in bytes and parameters, and
//! gives the challenges that are well-formed. It decides nothing: whether a realm may be spoken to
//! is checked elsewhere.

/// Longest header value that is read.
const HEADER_BYTES_MAX: usize = 8 << 10;
/// Most parameters of all challenges in one header.
const PARAMETERS_MAX: usize = 64;

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// The challenges that we can answer, in the order of the header.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut current: Option<(String, Vec<(String, String)>)> = None;
    if header.len() > HEADER_BYTES_MAX {
        return found;
    }
    let mut rest = header;
    for _ in 0..PARAMETERS_MAX {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            break;
        }
        let (name, after) = token(rest);
        if name.is_empty() {
            break;
        }
        match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
            // `name=value` belongs to the challenge before it.
            Some(value) => {
                let Some((value, after)) = value_of(value.trim_start_matches([' ', '\t'])) else {
                    break;
                };
                if let Some((_, parameters)) = &mut current {
                    parameters.push((name.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            // A name alone begins a new challenge.
            None => {
                found.extend(current.take().and_then(finish));
                current = Some((name.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    found.extend(current.and_then(finish));
    found
}

fn finish((scheme, parameters): (String, Vec<(String, String)>)) -> Option<Challenge> {
    let get =
        |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer { realm: get("realm")?, service: get("service") }),
        _ => None,
    }
}

/// Splits a token (RFC 9110, 5.6.2) off the front.
fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A token or a quoted string with its escapes.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = token(text);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn challenges_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
        };
        for (header, expected) in [
            ("Basic realm=\"x\"", vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (
                "Bearer realm=\"https://a.example/t\",service=\"r\",scope=\"repository:x:pull\"",
                vec![bearer("https://a.example/t", Some("r"))],
            ),
            (
                "Negotiate, Bearer realm = \"https://a/\\\"q\" , Basic realm=y",
                vec![bearer("https://a/\"q", None), Challenge::Basic],
            ),
            ("Bearer service=\"r\"", vec![]),
            ("Bearer realm=\"open", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
        assert!(parse(&"Basic ".repeat(4096)).is_empty());
    }

    proptest! {
        #[test]
        fn any_header_is_read(header in "\\PC{0,200}") {
            let _ = parse(&header);
        }

        #[test]
        fn quoting_round_trips(realm in "[ -~]{0,40}") {
            let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
            let found = parse(&format!("Bearer realm=\"{quoted}\""));
            prop_assert_eq!(found, vec![Challenge::Bearer { realm, service: None }]);
        }
    }
}
