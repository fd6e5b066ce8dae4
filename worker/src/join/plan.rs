//! What `join` has to do, from what this machine has and what it was told.

use anyhow::Context;
use orchestra_proto::{client::Life, token::JoinToken};
use orchestra_types::{Digest, Timestamp};

/// What is left to do.
#[derive(Debug)]
pub(super) enum Plan {
    Enrol(JoinToken),
    /// It is a member whose certificate has ended, or ends before long: it gets another one for its key.
    Again {
        token: JoinToken,
        member: Member,
    },
    /// It is a member of the cluster that is meant, whose head is where it is said to be.
    Member(Member),
    /// It was a member until its head revoked it, and only a token would let it in again.
    Revoked,
    /// It has been done.
    Done,
    /// It is a member, and the head is said to be here now.
    Elsewhere {
        member: Member,
        head: String,
    },
    /// It is a member of another cluster than the token's.
    OtherCluster {
        member: Member,
    },
}

/// The cluster that this machine belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its CA.
    pub ca: Digest,
    /// Where its head is.
    pub head: String,
    pub standing: Standing,
}

/// How long a certificate is good yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    /// It is to be renewed.
    Due,
    /// It has ended.
    Over(Timestamp),
    /// The head has said that it is revoked.
    Revoked,
}

impl Standing {
    /// Of a certificate of this life. One that cannot be read is as good as none.
    pub fn of(life: Option<Life>, now: Timestamp) -> Self {
        match life {
            Some(life) if life.is_over(now) => Self::Over(life.ends),
            Some(life) if life.is_due(now) => Self::Due,
            Some(_) => Self::Good,
            None => Self::Over(Timestamp(0)),
        }
    }
}

/// The token that was said, if one was.
pub(super) fn parse_token(text: &str) -> anyhow::Result<Option<JoinToken>> {
    match text.trim() {
        // A compose file must name some default.
        "" | "none" => Ok(None),
        token => Ok(Some(token.parse()?)),
    }
}

pub(super) fn plan(
    member: Option<Member>,
    head: Option<&str>,
    token: &str,
) -> anyhow::Result<Plan> {
    let token = parse_token(token)?;
    let Some(member) = member else {
        let none = "this machine has not joined a cluster, and there is no token: `ctl token create` where the head \
                    runs makes one, for `--token` or ORCHESTRA_TOKEN";
        return token.map(Plan::Enrol).context(none);
    };
    if token
        .as_ref()
        .is_some_and(|token| token.ca_fingerprint != member.ca)
    {
        return Ok(Plan::OtherCluster { member });
    }
    match (token, member.standing) {
        (Some(token), Standing::Due | Standing::Over(_)) => Ok(Plan::Again { token, member }),
        // Not with the key that somebody may have a copy of.
        (Some(token), Standing::Revoked) => Ok(Plan::Enrol(token)),
        (None, Standing::Revoked) => Ok(Plan::Revoked),
        (token, Standing::Good | Standing::Due | Standing::Over(_)) => Ok(as_member(
            member,
            head.or(token.as_ref().map(|token| token.head.as_str())),
        )),
    }
}

/// What is left to do for a member whose head is said to be here.
pub(super) fn as_member(member: Member, head: Option<&str>) -> Plan {
    match head {
        Some(head) if head != member.head => Plan::Elsewhere {
            head: head.to_owned(),
            member,
        },
        Some(_) | None => Plan::Member(member),
    }
}

#[cfg(test)]
mod tests {
    use orchestra_proto::token::Secret;

    use super::*;

    fn token() -> String {
        let token = JoinToken {
            head: "10.0.0.1:7117".to_owned(),
            ca_fingerprint: Digest([7; 32]),
            secret: Secret([9; 32]),
        };
        token.encode()
    }

    fn member(ca: u8) -> Option<Member> {
        Some(Member {
            ca: Digest([ca; 32]),
            head: "10.0.0.1:7117".to_owned(),
            standing: Standing::Good,
        })
    }

    fn standing(standing: Standing) -> Option<Member> {
        member(7).map(|member| Member { standing, ..member })
    }

    #[test]
    fn a_member_whose_certificate_ends_gets_another_one_for_a_token_of_its_cluster() {
        for left in [Standing::Due, Standing::Over(Timestamp(1))] {
            let again = plan(standing(left), None, &token());
            assert!(matches!(again, Ok(Plan::Again { .. })), "{again:?}");
            let none = plan(standing(left), None, "none");
            assert!(matches!(none, Ok(Plan::Member(_))), "{none:?}");
            let other = Member {
                ca: Digest([1; 32]),
                ..standing(left).unwrap()
            };
            let other = plan(Some(other), None, &token());
            assert!(matches!(other, Ok(Plan::OtherCluster { .. })), "{other:?}");
        }
    }

    #[test]
    fn a_certificate_stands_by_what_is_left_of_its_life() {
        let life = Life {
            begins: Timestamp(0),
            ends: Timestamp(300),
        };
        for (now, standing) in [
            (199, Standing::Good),
            (200, Standing::Due),
            (300, Standing::Due),
            (301, Standing::Over(Timestamp(300))),
        ] {
            assert_eq!(Standing::of(Some(life), Timestamp(now)), standing, "{now}");
        }
        assert!(matches!(
            Standing::of(None, Timestamp(0)),
            Standing::Over(_)
        ));
    }

    #[test]
    fn a_machine_that_has_joined_needs_no_token_and_uses_up_none() {
        for token in [String::new(), "none".to_owned(), token()] {
            for head in [None, Some("10.0.0.1:7117")] {
                let plan = plan(member(7), head, &token);
                assert!(matches!(plan, Ok(Plan::Member(_))), "{plan:?}");
            }
        }
    }

    #[test]
    fn a_new_machine_joins_with_a_token() {
        let revoked = || standing(Standing::Revoked);
        assert!(matches!(
            plan(revoked(), None, &token()),
            Ok(Plan::Enrol(_))
        ));
        for head in [None, Some("10.0.0.2:7117")] {
            let none = plan(revoked(), head, "none");
            assert!(matches!(none, Ok(Plan::Revoked)), "{none:?}");
        }
        assert!(matches!(plan(None, None, &token()), Ok(Plan::Enrol(_))));
        assert!(plan(None, None, "").is_err());
        assert!(plan(member(7), None, "nonsense").is_err());
    }

    #[test]
    fn a_head_at_another_address_must_be_found_there() {
        for token in [String::new(), token()] {
            let plan = plan(member(7), Some("10.0.0.2:7117"), &token);
            let Ok(Plan::Elsewhere { head, .. }) = plan else {
                panic!("{plan:?}");
            };
            assert_eq!(head, "10.0.0.2:7117");
        }
    }

    #[test]
    fn a_member_of_another_cluster_is_refused_with_what_it_belongs_to_and_what_to_do() {
        let plan = plan(member(1), Some("10.0.0.2:7117"), &token());
        let Ok(Plan::OtherCluster { member }) = plan else {
            panic!("{plan:?}");
        };
        assert_eq!(member.head, "10.0.0.1:7117");
    }
}
