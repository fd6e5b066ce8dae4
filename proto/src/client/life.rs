//! From when until when a certificate is good, and when it is to be renewed. Pure.

use std::time::Duration;

use orchestra_types::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// What is left of a life when it is to be renewed: one of so many parts.
const LEFT_WHEN_DUE: u64 = 3;

/// The life of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it begins.
    pub begins: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
}

impl Life {
    /// Of the first certificate in `pem`; none when there is none that can be read.
    #[must_use]
    pub fn of_pem(pem: &str) -> Option<Self> {
        Self::of_der(&CertificateDer::from_pem_slice(pem.as_bytes()).ok()?)
    }

    /// Of a certificate; none when it cannot be read.
    #[must_use]
    pub fn of_der(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        Some(Self {
            begins: timestamp(validity.not_before),
            ends: timestamp(validity.not_after),
        })
    }

    /// From when on it is to be renewed: a third of it is left.
    #[must_use]
    pub fn due(self) -> Timestamp {
        let whole = self.ends.0.saturating_sub(self.begins.0);
        Timestamp(self.ends.0 - whole / LEFT_WHEN_DUE)
    }

    /// Whether it is to be renewed.
    #[must_use]
    pub fn is_due(self, now: Timestamp) -> bool {
        now >= self.due()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(self, now: Timestamp) -> bool {
        now > self.ends
    }

    /// How long until it is to be renewed.
    #[must_use]
    pub fn until_due(self, now: Timestamp) -> Duration {
        Duration::from_millis(self.due().0.saturating_sub(now.0))
    }
}

/// The day of a moment, for people: `2028-08-03`, in UTC.
#[must_use]
pub fn day(moment: Timestamp) -> String {
    let seconds = i64::try_from(moment.0 / 1000).unwrap_or(i64::MAX);
    let time = ASN1Time::from_timestamp(seconds);
    time.map_or_else(
        |_| "the end of time".to_owned(),
        |time| time.to_datetime().date().to_string(),
    )
}

fn timestamp(time: ASN1Time) -> Timestamp {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    Timestamp(seconds.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Life = Life {
        begins: Timestamp(1000),
        ends: Timestamp(4000),
    };

    #[test]
    fn a_certificate_is_due_when_a_third_of_its_life_is_left() {
        for (now, due, left) in [(0, false, 3000), (2999, false, 1), (3000, true, 0)] {
            let now = Timestamp(now);
            assert_eq!(LIFE.is_due(now), due, "{now:?}");
            assert_eq!(LIFE.until_due(now), Duration::from_millis(left));
        }
        assert!(LIFE.is_due(Timestamp(9000)) && LIFE.until_due(Timestamp(9000)).is_zero());
    }

    #[test]
    fn it_is_good_until_its_last_moment() {
        for (now, over) in [(0, false), (4000, false), (4001, true)] {
            assert_eq!(LIFE.is_over(Timestamp(now)), over, "{now}");
        }
    }

    #[test]
    fn a_life_that_makes_no_sense_is_due_when_it_ends() {
        let odd = Life {
            begins: Timestamp(9000),
            ends: Timestamp(4000),
        };
        assert_eq!(odd.due(), odd.ends);
    }

    #[test]
    fn a_moment_is_told_by_its_day() {
        assert_eq!(day(Timestamp(0)), "1970-01-01");
        assert_eq!(day(Timestamp(1_848_873_600_123)), "2028-08-03");
        assert_eq!(day(Timestamp(u64::MAX)), "the end of time");
    }

    #[test]
    fn what_is_no_certificate_has_no_life() {
        assert_eq!(Life::of_pem("cert"), None);
        assert_eq!(Life::of_der(b"cert"), None);
    }
}
