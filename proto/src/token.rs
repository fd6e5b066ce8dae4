//! The text that lets another machine join: where the head is, how to know it, and a secret.
//!
//! ```text
//! ORCH1.<base64url of {"h":"HOST:PORT","f":"<CA fingerprint, hex>","s":"<secret, base64url>"}>
//! ```

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use orchestra_types::Digest;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// What every token of this version begins with.
const PREFIX: &str = "ORCH1.";
/// Longest token text.
const TEXT_BYTES_MAX: usize = 2048;

/// How many hex digits the id of a token has.
const ID_DIGITS: usize = 8;

/// The secret part of a token: 256 random bits. Never shown by `Debug`.
#[derive(Clone)]
pub struct Secret(pub [u8; 32]);

impl Secret {
    /// What the head keeps of it: its SHA-256.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest(sha2::Sha256::digest(self.0).into())
    }

    /// What people call the token by.
    #[must_use]
    pub fn id(&self) -> String {
        id_of(&self.hash())
    }
}

/// What people call a token by: the beginning of the hash of its secret, which tells nothing of that.
#[must_use]
pub fn id_of(hash: &Digest) -> String {
    let mut id = hash.to_string();
    id.truncate(ID_DIGITS);
    id
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A join token.
#[derive(Clone, Debug)]
pub struct JoinToken {
    /// The head's address, `HOST:PORT`.
    pub head: String,
    /// SHA-256 of the CA certificate in DER.
    pub ca_fingerprint: Digest,
    /// What shows that the bearer may join.
    pub secret: Secret,
}

/// Why a text is not a join token. Never repeats the text: it may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a join token ({0}); make one with `ctl token create`")]
pub struct ParseTokenError(&'static str);

/// The JSON inside, with short names to keep the text short.
#[derive(Serialize, Deserialize)]
struct Wire {
    h: String,
    f: Digest,
    s: String,
}

impl JoinToken {
    /// The text to give to a person. It is a secret.
    #[must_use]
    pub fn encode(&self) -> String {
        let wire = Wire {
            h: self.head.clone(),
            f: self.ca_fingerprint,
            s: URL_SAFE_NO_PAD.encode(self.secret.0),
        };
        let json = serde_json::to_vec(&wire).expect("texts and digests are JSON");
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(ParseTokenError("it is too long"));
        }
        let body = text
            .strip_prefix(PREFIX)
            .ok_or(ParseTokenError("it does not begin with `ORCH1.`"))?;
        let cut = ParseTokenError("a part of it is missing or changed");
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| cut)?;
        let wire: Wire = serde_json::from_slice(&json).map_err(|_| cut)?;
        let secret = URL_SAFE_NO_PAD.decode(wire.s).map_err(|_| cut)?;
        Ok(Self {
            head: wire.h,
            ca_fingerprint: wire.f,
            secret: Secret(secret.try_into().map_err(|_| cut)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            head: "10.0.0.1:7117".to_owned(),
            ca_fingerprint: Digest([7; 32]),
            secret: Secret([9; 32]),
        }
    }

    #[test]
    fn a_token_survives_copy_and_paste() {
        let text = token().encode();
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        );
        let read: JoinToken = format!(" {text}\n").parse().unwrap();
        assert_eq!(read.head, "10.0.0.1:7117");
        assert_eq!(read.ca_fingerprint, Digest([7; 32]));
        assert_eq!(read.secret.0, [9; 32]);
    }

    #[test]
    fn a_cut_or_foreign_text_is_refused_without_repeating_it() {
        let text = token().encode();
        for end in 0..text.len() {
            let error = text[..end].parse::<JoinToken>().unwrap_err();
            assert!(end < 8 || !error.to_string().contains(&text[7..end]));
        }
        for text in ["", "ORCH2.abc", "ORCH1.{}", "ORCH1.e30", "ORCH1.é"] {
            assert!(text.parse::<JoinToken>().is_err(), "{text}");
        }
        assert!("x".repeat(1 << 20).parse::<JoinToken>().is_err());
    }

    #[test]
    fn a_secret_is_never_shown_by_debug() {
        let shown = format!("{:?}", token());
        assert!(
            shown.contains("Secret(…)") && !shown.contains("9, 9"),
            "{shown}"
        );
    }
}
