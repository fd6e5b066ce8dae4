//! One join token, as the book of them has it, and how it is told to people: never its secret.

use orchestra_proto::token;
use orchestra_types::{Digest, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};

use super::enrolment::Claim;

/// A token in the book. An older head reads it too, without what it does not know of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Token {
    pub hash: Digest,
    /// None where an earlier head made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub used_by: Option<Claim>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// What may be done with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// A machine may join with it.
    Open,
    /// One has.
    Used,
    /// Its time is over, and nobody has.
    Expired,
    /// A person has ended it.
    Revoked,
}

/// A token that was made, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// What it is called by.
    pub id: String,
    /// What may be done with it.
    pub state: TokenState,
    /// None where an earlier head made it.
    pub created_at: Option<Timestamp>,
    /// When its time is, or was, over.
    pub expires_at: Timestamp,
    /// Who has joined with it.
    pub used_by: Option<WorkerId>,
}

impl Token {
    pub fn new(hash: Digest, now: Timestamp, expires_at: Timestamp) -> Self {
        Self {
            hash,
            created_at: Some(now),
            expires_at,
            used_by: None,
            revoked_at: None,
        }
    }

    pub fn id(&self) -> String {
        token::id_of(&self.hash)
    }

    pub fn state(&self, now: Timestamp) -> TokenState {
        if self.revoked_at.is_some() {
            TokenState::Revoked
        } else if self.used_by.is_some() {
            TokenState::Used
        } else if self.expires_at <= now {
            TokenState::Expired
        } else {
            TokenState::Open
        }
    }

    /// Ends it. IMPORTANT: also for an older head, which knows nothing but the time.
    pub fn revoke(&mut self, now: Timestamp) {
        self.revoked_at.get_or_insert(now);
        self.expires_at = self.expires_at.min(now);
    }

    pub fn issued(&self, now: Timestamp) -> Issued {
        Issued {
            id: self.id(),
            state: self.state(now),
            created_at: self.created_at,
            expires_at: self.expires_at,
            used_by: self.used_by.as_ref().map(|claim| claim.worker.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1000);

    #[test]
    fn a_token_of_an_earlier_head_reads_and_an_earlier_head_reads_one_of_this() {
        let hash = Digest([0xab; 32]);
        let earlier = format!(r#"{{"hash":"{hash}","expires_at":2000,"used_by":null}}"#);
        let mut token: Token = serde_json::from_str(&earlier).unwrap();
        assert_eq!(
            token.issued(NOW),
            Issued {
                id: "abababab".to_owned(),
                state: TokenState::Open,
                created_at: None,
                expires_at: Timestamp(2000),
                used_by: None,
            }
        );
        assert_eq!(serde_json::to_string(&token).unwrap(), earlier);
        token.revoke(NOW);
        assert_eq!(token.state(NOW), TokenState::Revoked);
        assert_eq!(token.expires_at, NOW, "an earlier head refuses it too");
        token.revoke(Timestamp(3000));
        assert_eq!((token.revoked_at, token.expires_at), (Some(NOW), NOW));
    }
}
