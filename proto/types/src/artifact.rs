//! Stored bytes, named by what they are.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::id::ParseIdError;

/// A SHA-256 digest: the name of stored bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refused = || ParseIdError {
            text: text.chars().take(80).collect(),
            wanted: "SHA-256 digest (64 lower-case hex digits)",
        };
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 64 || !text.bytes().all(lower_hex) {
            return Err(refused());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| refused())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refused())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    /// The agent's final text.
    Output,
    /// The change as a patch (`git apply`).
    Patch,
    /// The change as a git bundle whose ref is the attempt's branch.
    Bundle,
    /// The list of changed files, as a stored `Manifest`.
    Manifest,
    /// What the CLI printed, byte for byte.
    Log,
    /// What the CLI printed on standard error.
    Stderr,
    /// A snapshot of a repository to start from.
    Source,
    /// A file given as context.
    Context,
}

impl ArtifactKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Output,
        Self::Patch,
        Self::Bundle,
        Self::Manifest,
        Self::Log,
        Self::Stderr,
        Self::Source,
        Self::Context,
    ];

    /// The name, as in `--json` and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Patch => "patch",
            Self::Bundle => "bundle",
            Self::Manifest => "manifest",
            Self::Log => "log",
            Self::Stderr => "stderr",
            Self::Source => "source",
            Self::Context => "context",
        }
    }
}

impl FromStr for ArtifactKind {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Self::ALL
            .into_iter()
            .find(|k| k.as_str() == text)
            .ok_or_else(|| ParseIdError {
                text: text.chars().take(64).collect(),
                wanted: "kind of artifact",
            })
    }
}

/// Stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What they are.
    pub kind: ArtifactKind,
    /// Their name.
    pub digest: Digest,
    /// How many.
    pub size: u64,
}
