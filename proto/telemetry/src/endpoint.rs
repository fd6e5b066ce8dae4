//! Where telemetry is sent to: from what is written to an address with a scheme. Pure.

use std::net::IpAddr;

use orchestra_types::collector::{self, authority, has_scheme, host, without_credentials};

use crate::Error;

/// The endpoint of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    address: String,
}

impl Endpoint {
    /// `insecure` is what `OTEL_EXPORTER_OTLP_INSECURE` says. Without it and without a scheme nobody has
    /// said whether what is sent is encrypted, and only loopback needs no answer.
    pub fn new(written: &str, insecure: Option<&str>) -> Result<Self, Error> {
        let written = written.trim();
        if has_scheme(written) {
            return Self::checked(written.to_owned());
        }
        let scheme = match insecure {
            _ if is_loopback(host(authority(written))) => "http",
            // The specification: what is not `true` is `false`.
            Some(insecure) if insecure.trim().eq_ignore_ascii_case("true") => "http",
            Some(_) => "https",
            None => {
                let endpoint = without_credentials(written);
                return Err(Error::NoScheme { endpoint });
            }
        };
        Self::checked(format!("{scheme}://{written}"))
    }

    /// Nobody else says before the first sending that nothing can be reached there.
    fn checked(address: String) -> Result<Self, Error> {
        collector::check(&address)?;
        Ok(Self { address })
    }

    /// What is dialled.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What may be shown: who may read a log need not know a password.
    pub fn shown(&self) -> String {
        without_credentials(&self.address)
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(written: &str, insecure: Option<&str>) -> String {
        let endpoint = Endpoint::new(written, insecure).unwrap();
        endpoint.address().to_owned()
    }

    #[test]
    fn a_scheme_that_is_written_counts() {
        for written in ["http://collector:4317", "https://[2001:db8::1]:4317/x"] {
            for insecure in [None, Some("true"), Some("false")] {
                assert_eq!(address(written, insecure), written);
            }
        }
    }

    #[test]
    fn loopback_needs_no_scheme() {
        for written in [
            "localhost:4317",
            "127.0.0.1:4317",
            "127.8.0.1",
            "[::1]:4317",
        ] {
            for insecure in [None, Some("false")] {
                assert_eq!(address(written, insecure), format!("http://{written}"));
            }
        }
    }

    #[test]
    fn elsewhere_the_variable_says_whether_it_is_encrypted() {
        let written = "collector:4317";
        assert_eq!(address(written, Some("True")), "http://collector:4317");
        assert_eq!(address(written, Some("false")), "https://collector:4317");
        assert_eq!(address(written, Some("no")), "https://collector:4317");
        assert_eq!(
            address("collector:4317/a://b", Some("false")),
            "https://collector:4317/a://b"
        );
    }

    #[test]
    fn what_nobody_has_said_is_refused_with_both_forms() {
        for written in [
            "collector:4317",
            "me:secret@collector:4317",
            "localhost@collector:4317",
        ] {
            let error = Endpoint::new(written, None).unwrap_err().to_string();
            assert!(
                error.contains("`http://collector:4317`")
                    && error.contains("`https://collector:4317`")
                    && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_cannot_be_reached_is_refused_with_what_is_wrong() {
        for (written, why) in [
            ("ftp://collector:4317", "has a scheme"),
            ("http://collector:99999", "has a port"),
            ("https://me:secret@collector:0", "has a port"),
            ("http://[2001:db8::1]:x", "has a port"),
            ("localhost:99999", "has a port"),
            ("collector:", "has a port"),
            ("http://:4317", "names no host"),
            ("https:///v1", "names no host"),
        ] {
            let error = Endpoint::new(written, Some("true"))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(why) && error.contains("`http://HOST:PORT`"),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(
            address("HTTP://collector/x:y", None),
            "HTTP://collector/x:y"
        );
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = |written| Endpoint::new(written, Some("true")).unwrap().shown();
        assert_eq!(shown("http://me:s@c@host:1/p?q"), "http://host:1/p?q");
        assert_eq!(shown("me:secret@host:1"), "http://host:1");
        assert_eq!(shown("https://host"), "https://host");
        assert_eq!(shown("https://host/a@b"), "https://host/a@b");
    }
}
