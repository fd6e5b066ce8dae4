//! Join tokens that were made.

use orchestra_proto::{Refused, v1};
use serde::Serialize;

use super::{refused, some, time::Time};
use crate::error::Result;

/// What may be done with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A machine may join with it.
    Open,
    /// One has.
    Used,
    /// Its time is over, and nobody has.
    Expired,
    /// It was ended.
    Revoked,
}

/// A token, in `ctl token list --json`; never its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    /// What it is called by.
    pub id: String,
    /// What may be done with it, by the head's clock.
    pub state: State,
    /// Null where an earlier head made it.
    pub created_at: Option<Time>,
    /// When its time is, or was, over; of a revoked one not after that.
    pub expires_at: Time,
    /// The id of the worker that has joined with it; null where none has.
    pub used_by: Option<String>,
}

impl Token {
    /// Reads the head's answer.
    pub fn read(wire: v1::IssuedToken) -> Result<Self> {
        let state = match wire.state() {
            v1::TokenState::Open => State::Open,
            v1::TokenState::Used => State::Used,
            v1::TokenState::Expired => State::Expired,
            v1::TokenState::Revoked => State::Revoked,
            v1::TokenState::Unspecified => {
                return Err(refused(Refused::new("state", "is not known here")));
            }
        };
        Ok(Self {
            id: wire.id,
            state,
            created_at: wire.created_at_ms.map(Time::from_ms),
            expires_at: Time::from_ms(wire.expires_at_ms),
            used_by: some(wire.used_by),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::undocumented;

    #[test]
    fn the_page_names_what_stands_in_a_token() {
        let token = Token::read(v1::IssuedToken {
            id: "0a1b2c3d".to_owned(),
            state: v1::TokenState::Open.into(),
            ..Default::default()
        });
        let document = serde_json::to_value(token.unwrap()).unwrap();
        let page = include_str!("../../../docs/json.md");
        let of_tokens = page.lines().find(|line| line.starts_with("**Join token**"));
        let lacks = undocumented(of_tokens.unwrap(), &document);
        assert_eq!(lacks, [] as [String; 0]);
        let unknown = v1::IssuedToken::default();
        assert!(Token::read(unknown).is_err());
    }
}
