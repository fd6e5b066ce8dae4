//! Why there is no connection to the head, so that a person can tell what to do.

use std::{error::Error, io, time::Duration};

use orchestra_types::Timestamp;
use rustls::{CertificateError, pki_types::UnixTime};

use super::day;

/// Why there is no connection to the head.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address has the wrong form.
    #[error("`{endpoint}` is not an address of the form HOST:PORT")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// Our own certificate files are of no use.
    #[error("the {what} cannot be used: {why}")]
    Credentials {
        /// Which part.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// Nothing listens there.
    #[error("no head is running at {endpoint}")]
    NotRunning {
        /// Where.
        endpoint: String,
        /// The refusal.
        source: io::Error,
    },
    /// The address cannot be reached or its name is unknown.
    #[error("{endpoint} cannot be reached")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("{endpoint} did not answer within {} s", after.as_secs())]
    Timeout {
        /// Where.
        endpoint: String,
        /// How long we waited.
        after: Duration,
    },
    /// Who answered has no certificate of our cluster's head.
    #[error("what answers at {endpoint} is not the head of this cluster")]
    WrongHead {
        /// Where.
        endpoint: String,
        /// What is wrong with its certificate.
        source: rustls::Error,
    },
    /// The head's certificate is ours, and its time is over, or not yet there, by our clock.
    #[error("the certificate of the head at {endpoint} {when}")]
    HeadOutOfDate {
        /// Where.
        endpoint: String,
        /// Since when it is over, or from when on it is good.
        when: String,
        /// What TLS says of it.
        source: rustls::Error,
    },
    /// Our certificate has expired.
    #[error("our certificate has expired on {}, and the head at {endpoint} refuses it", day(*.ended))]
    Expired {
        /// Where.
        endpoint: String,
        /// When it ended.
        ended: Timestamp,
        /// The head's alert.
        source: rustls::Error,
    },
    /// The head does not accept our certificate.
    #[error("the head at {endpoint} refused our certificate")]
    CertificateRefused {
        /// Where.
        endpoint: String,
        /// The head's alert.
        source: rustls::Error,
    },
    /// The connection broke while it was set up, or what answers speaks something else.
    #[error("the connection to {endpoint} broke while it was set up")]
    Broken {
        /// Where.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
}

/// The system tells it in words alone.
fn is_unknown_name(source: &io::Error) -> bool {
    source.to_string().contains("failed to lookup address")
}

impl ConnectError {
    /// What a person can do about it; fits after "hint:".
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Endpoint { .. } => "write it as HOST:PORT, for example 127.0.0.1:7117",
            Self::Credentials { .. } => {
                "restart the head to have the local files made again, or join with a new token"
            }
            Self::NotRunning { .. } => {
                "start it with `ctl start`, or name the address of one on another machine with `--head HOST:PORT`"
            }
            Self::Unreachable { source, .. } if is_unknown_name(source) => {
                "nobody knows that name here: give the address as `--head IP:PORT`, or have the head say one that \
                 other machines know (`head.advertise`)"
            }
            Self::Unreachable { .. } => "check the address and the network",
            Self::Timeout { .. } => "check that the address is right and no firewall is between",
            Self::WrongHead { .. } => {
                "check the address and the state directory: another cluster answers there"
            }
            Self::HeadOutOfDate { .. } => {
                "compare the clocks of both machines; if they are right, restart the head, which makes a new one"
            }
            Self::Expired { .. } => {
                "compare the clocks of both machines; for `ctl`, copy the directory `client` of the head's state directory \
                 anew (on the head's own machine a restart of the head makes it anew); a worker joins again with a new token of `ctl token create`"
            }
            Self::CertificateRefused { .. } => {
                "the certificate is of another cluster, or not valid by the head's clock: for `ctl`, copy the directory \
                 `client` of the head's state directory anew; a worker joins with a new token of `ctl token create`"
            }
            Self::Broken { .. } => "check that an Orchestra head listens at this address",
        }
    }

    /// The connection error below `error`, for example below the status of a call.
    #[must_use]
    pub fn below<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    /// An error of setting up TCP.
    pub(super) fn of_tcp(endpoint: &str, source: io::Error) -> Self {
        let endpoint = endpoint.to_owned();
        if source.kind() == io::ErrorKind::ConnectionRefused {
            Self::NotRunning { endpoint, source }
        } else {
            Self::Unreachable { endpoint, source }
        }
    }

    /// An error of setting up TLS: `tokio-rustls` wraps the reason in an I/O error. `ended` is when our
    /// certificate has ended, if it has.
    pub(super) fn of_tls(endpoint: &str, ended: Option<Timestamp>, source: io::Error) -> Self {
        let endpoint = endpoint.to_owned();
        let reason = source
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (reason, ended) {
            (Some(rustls::Error::InvalidCertificate(why)), _) if when(why).is_some() => {
                Self::HeadOutOfDate {
                    endpoint,
                    when: when(why).expect("matched above"),
                    source: reason.cloned().expect("matched above"),
                }
            }
            (Some(rustls::Error::AlertReceived(alert)), Some(ended))
                if is_about_certificate(*alert) =>
            {
                Self::Expired {
                    endpoint,
                    ended,
                    source: reason.cloned().expect("matched above"),
                }
            }
            (Some(rustls::Error::InvalidCertificate(_)), _) => Self::WrongHead {
                endpoint,
                source: reason.cloned().expect("matched above"),
            },
            (Some(rustls::Error::AlertReceived(alert)), None) if is_about_certificate(*alert) => {
                Self::CertificateRefused {
                    endpoint,
                    source: reason.cloned().expect("matched above"),
                }
            }
            (Some(_) | None, _) => Self::Broken { endpoint, source },
        }
    }
}

/// What is wrong with the time of a certificate; none when it is something else.
fn when(why: &CertificateError) -> Option<String> {
    match why {
        CertificateError::Expired => Some("has expired".to_owned()),
        CertificateError::ExpiredContext { not_after, .. } => {
            Some(format!("has expired on {}", day_of(*not_after)))
        }
        CertificateError::NotValidYet => Some("is not valid yet".to_owned()),
        CertificateError::NotValidYetContext { not_before, .. } => {
            Some(format!("is not valid before {}", day_of(*not_before)))
        }
        _ => None,
    }
}

fn day_of(time: UnixTime) -> String {
    day(Timestamp(time.as_secs().saturating_mul(1000)))
}

fn is_about_certificate(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::CertificateRequired
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_knows_is_told_from_a_network_that_is_down() {
        let advice = |source: io::Error| {
            let endpoint = "h:7117".to_owned();
            ConnectError::Unreachable { endpoint, source }.advice()
        };
        let unknown = io::Error::other("failed to lookup address information: Name or service");
        assert!(advice(unknown).contains("--head IP:PORT"));
        let down = io::Error::from(io::ErrorKind::NetworkUnreachable);
        assert_eq!(advice(down), "check the address and the network");
    }
}
