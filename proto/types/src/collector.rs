//! The address of a collector of telemetry, and what is wrong with one that is none.

/// It is no address of a collector that takes OTLP/gRPC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the OTLP endpoint `{endpoint}` {why}: write `http://HOST:PORT`, or `https://HOST:PORT` for TLS"
)]
pub struct NoCollector {
    /// The endpoint as it is written, without a password.
    pub endpoint: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Looks at an address that has a scheme.
///
/// # Errors
/// When nothing can be reached there.
pub fn check(address: &str) -> Result<(), NoCollector> {
    match fault(address) {
        None => Ok(()),
        Some(why) => Err(NoCollector {
            endpoint: without_credentials(address),
            why,
        }),
    }
}

/// Whether it begins with a scheme: a `://` further behind is a part of the path.
#[must_use]
pub fn has_scheme(written: &str) -> bool {
    let scheme = written.split_once("://");
    scheme.is_some_and(|(scheme, _)| !scheme.contains(['/', '?', '#']))
}

/// What is wrong with an address that has a scheme.
fn fault(address: &str) -> Option<&'static str> {
    let (scheme, rest) = address.split_once("://")?;
    let is_http = ["http", "https"].map(|known| scheme.eq_ignore_ascii_case(known));
    let authority = authority(rest);
    let host = host(authority);
    if is_http == [false, false] {
        return Some("has a scheme that is none of OTLP/gRPC");
    }
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Some("names no host");
    }
    // Behind the brackets of an IPv6 address, where there are any.
    let (_, behind) = authority.rsplit_once('@').unwrap_or(("", authority));
    let behind = behind.rsplit_once(']').map_or(behind, |(_, behind)| behind);
    let port = behind.split_once(':').map(|(_, port)| port.parse::<u16>());
    match port {
        None | Some(Ok(1..)) => None,
        Some(Ok(0) | Err(_)) => Some("has a port that is none of 1 to 65535"),
    }
}

/// `user:password@host:port` of an address without a scheme.
#[must_use]
pub fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// The host of an authority, without brackets.
#[must_use]
pub fn host(authority: &str) -> &str {
    let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or(bracketed);
    }
    host.split(':').next().unwrap_or(host)
}

/// What may be shown of an address: who may read a log need not know a password.
#[must_use]
pub fn without_credentials(address: &str) -> String {
    let (scheme, rest) = match has_scheme(address) {
        true => address.split_at(address.find("://").map_or(0, |at| at + "://".len())),
        false => ("", address),
    };
    let authority = authority(rest);
    let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    format!("{scheme}{host}{}", &rest[authority.len()..])
}
