//! The refusals of this room as gRPC statuses, in one place.

use orchestra_types::WorkerId;
use tonic::{Code, Status};

use super::{Identity, enrolment::EnrolError, renewal::RenewalError};

/// Why a call does not reach its service.
#[derive(Debug, thiserror::Error)]
pub(super) enum Denied {
    #[error(
        "this call needs a certificate of this cluster; join first, or use `ctl` of the head's machine"
    )]
    NoCertificate,
    #[error("the certificate names nobody of this cluster")]
    UnknownIdentity,
    #[error("the credentials of {0} were revoked")]
    Revoked(Identity),
    #[error("{caller} may not call {service}")]
    NotAllowed { caller: Identity, service: String },
    #[error("{caller} may not speak for worker/{claimed}")]
    NotThatWorker { caller: Identity, claimed: WorkerId },
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        let code = match &denied {
            Denied::NoCertificate | Denied::UnknownIdentity | Denied::Revoked(_) => {
                Code::Unauthenticated
            }
            Denied::NotAllowed { .. } | Denied::NotThatWorker { .. } => Code::PermissionDenied,
        };
        Self::new(code, denied.to_string())
    }
}

impl From<RenewalError> for Status {
    fn from(error: RenewalError) -> Self {
        let code = match &error {
            RenewalError::Unknown(_) => Code::FailedPrecondition,
            RenewalError::Revoked(_) => Code::Unauthenticated,
            RenewalError::Make(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<EnrolError> for Status {
    fn from(error: EnrolError) -> Self {
        let code = match &error {
            EnrolError::Malformed(_) => Code::InvalidArgument,
            EnrolError::UnknownToken
            | EnrolError::Expired
            | EnrolError::Used
            | EnrolError::RevokedToken
            | EnrolError::Revoked => Code::Unauthenticated,
            EnrolError::OtherKey { .. } => Code::AlreadyExists,
            EnrolError::Store(_) | EnrolError::Sign(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}
