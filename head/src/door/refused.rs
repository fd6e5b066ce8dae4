//! Why strangers got no further: counted each time, and logged now and then.

use std::{io, net::SocketAddr, sync::Arc};

use tokio_rustls::rustls;

use crate::{metrics::Metrics, sparing::Sparing};

/// Why a connection ended before anybody who belongs here was known to be at its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There was no place.
    Full,
    /// It gave way to a newer stranger.
    GaveWay,
    /// What it said is no TLS, as garbage or plain HTTP.
    NotTls,
    /// It showed a certificate that is not of the cluster.
    Certificate,
    /// TLS failed otherwise, as with an older version or a client that does not trust the head.
    Tls,
    /// TLS was not made in time.
    Handshake,
    /// Its peer ended it before TLS was made, as a probe of the port does.
    Closed,
    /// It showed no certificate and stayed until its time was over.
    NoCertificate,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Full,
        Self::GaveWay,
        Self::NotTls,
        Self::Certificate,
        Self::Tls,
        Self::Handshake,
        Self::Closed,
        Self::NoCertificate,
    ];

    /// As a label and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::GaveWay => "gave_way",
            Self::NotTls => "not_tls",
            Self::Certificate => "certificate",
            Self::Tls => "tls",
            Self::Handshake => "handshake_timeout",
            Self::Closed => "closed",
            Self::NoCertificate => "no_certificate",
        }
    }

    /// Why no TLS was made.
    pub(super) fn of(error: &io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidMessage(_)) => Self::NotTls,
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                Self::Certificate
            }
            Some(_) => Self::Tls,
            None => Self::Closed,
        }
    }
}

/// Notes who was refused: one line a minute for each reason, whatever comes. Clones share it.
#[derive(Clone)]
pub(super) struct Refused {
    metrics: Arc<Metrics>,
    lines: Arc<[Sparing; Reason::ALL.len()]>,
}

impl Refused {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let lines = Reason::ALL.map(|_| Sparing::one_a_minute());
        Self {
            metrics,
            lines: Arc::new(lines),
        }
    }

    pub fn note(&self, reason: Reason, from: SocketAddr, error: Option<&io::Error>) {
        self.metrics.connection_refused(reason);
        let Some(left_out) = self.may(reason) else {
            return;
        };
        let (reason, error) = (reason.as_str(), error.map(tracing::field::display));
        tracing::warn!(reason, %from, left_out, error, "connection refused");
    }

    /// Whether a line may be written; then, how many of its kind were left out before it.
    fn may(&self, reason: Reason) -> Option<u64> {
        self.lines[reason as usize].may()
    }

    pub fn knock(&self, from: SocketAddr) -> Knock {
        Knock {
            refused: self.clone(),
            from,
        }
    }
}

/// A stranger at the door, who may be refused once.
pub(super) struct Knock {
    refused: Refused,
    from: SocketAddr,
}

impl Knock {
    pub fn refuse(self, reason: Reason) {
        self.refused.note(reason, self.from, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::Shown;

    #[test]
    fn a_flood_is_counted_and_leaves_a_line_for_each_reason() {
        let shown = Shown::new();
        let refused = Refused::new(Arc::clone(&shown.metrics));
        let from = ([192, 0, 2, 1], 9).into();
        for reason in Reason::ALL {
            assert_eq!(refused.may(reason), Some(0));
        }
        for _ in 0..1000 {
            refused.note(Reason::NotTls, from, None);
            assert_eq!(refused.clone().may(Reason::NotTls), None);
        }
        let text = shown.text();
        let want = "orchestra_connections_refused_total{reason=\"not_tls\"} 1000\n";
        assert!(text.contains(want), "{text}");
    }

    #[test]
    fn each_reason_has_its_own_line() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
