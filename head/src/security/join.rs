//! The Join service: a token and a signing request in, a worker's certificate out.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use orchestra_proto::{
    token::JoinToken,
    v1::{EnrolRequest, EnrolResponse, join_server},
};
use orchestra_types::{Timestamp, WorkerId, limits, time};
use tonic::{Response, Status};

use super::{
    enrolment::{Claim, EnrolError, Enrolment},
    pki::{self, Pki},
};
use crate::sparing::{Sparing, shown};

/// How much is told of why a request is not well formed.
const REASON_BYTES_MAX: usize = 256;

/// The Join service.
pub struct Join {
    pki: Arc<Pki>,
    enrolment: Arc<Enrolment>,
    refused: Sparing,
}

impl Join {
    pub(super) fn new(pki: Arc<Pki>, enrolment: Arc<Enrolment>, refused: Sparing) -> Self {
        Self {
            pki,
            enrolment,
            refused,
        }
    }

    /// Anybody can be refused, as often as he likes.
    fn log_refused(&self, worker: &str, from: Option<SocketAddr>, error: &EnrolError) {
        if let Some(left_out) = self.refused.may() {
            let worker = shown(worker, limits::NAME_BYTES_MAX);
            tracing::warn!(%worker, ?from, reason = %error, left_out, "worker may not join");
        }
    }
}

#[tonic::async_trait]
impl join_server::Join for Join {
    async fn enrol(
        &self,
        request: tonic::Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let from = request.remote_addr();
        let (pki, enrolment) = (Arc::clone(&self.pki), Arc::clone(&self.enrolment));
        let request = request.into_inner();
        let worker = request.worker_id.clone();
        // The book is written to disk, which may wait.
        let enrolled =
            tokio::task::spawn_blocking(move || enrol(&pki, &enrolment, &request, clock()))
                .await
                .map_err(|_| Status::internal("the head failed while it enrolled the worker"))?;
        match enrolled {
            Ok(response) => {
                tracing::info!(worker, ?from, "worker joined the cluster");
                Ok(Response::new(response))
            }
            Err(error) => {
                self.log_refused(&worker, from, &error);
                Err(error.into())
            }
        }
    }
}

/// Checks everything first, then uses the token, then signs.
pub(super) fn enrol(
    pki: &Pki,
    enrolment: &Enrolment,
    request: &EnrolRequest,
    now: Timestamp,
) -> Result<EnrolResponse, EnrolError> {
    let malformed = |what: &str, why: String| {
        // It may repeat what a stranger sent.
        EnrolError::Malformed(format!("{what}: {}", shown(&why, REASON_BYTES_MAX)))
    };
    let token: JoinToken = request
        .token
        .parse()
        .map_err(|e| malformed("token", format!("{e}")))?;
    let worker: WorkerId = request
        .worker_id
        .parse()
        .map_err(|e| malformed("worker_id", format!("{e}")))?;
    let csr =
        pki::Request::read(&request.csr_pem).map_err(|e| malformed("csr_pem", e.to_string()))?;
    let claim = Claim {
        worker,
        key: csr.key(),
    };
    enrolment.redeem(&token.secret, &claim, now)?;
    let certificate_pem = pki
        .sign(&csr, &claim.worker, now)
        .map_err(EnrolError::Sign)?;
    Ok(EnrolResponse {
        certificate_pem,
        ca_pem: pki.ca_pem().to_owned(),
        cluster: pki.cluster().to_owned(),
    })
}

pub(super) fn clock() -> Timestamp {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(time::millis(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_repeats_little_of_what_a_stranger_sent() {
        let dir = tempfile::tempdir().unwrap();
        let now = clock();
        let security = super::super::Security::open(dir.path(), now).unwrap();
        let ttl = limits::TOKEN_TTL;
        let (token, _) = security.create_token("127.0.0.1:1", ttl, now).unwrap();
        let request = EnrolRequest {
            token: token.encode(),
            worker_id: "\u{1b}".repeat(60_000),
            csr_pem: String::new(),
        };
        let refused = enrol(&security.pki, &security.enrolment, &request, now).unwrap_err();
        let text = refused.to_string();
        assert!(text.len() < 4096, "{} bytes", text.len());
        assert!(!text.contains(char::is_control), "{text}");
    }
}
