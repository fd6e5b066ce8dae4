//! The Join service: a token and a signing request in, a worker's certificate out.

use std::{sync::Arc, time::SystemTime};

use orchestra_proto::{
    token::JoinToken,
    v1::{EnrolRequest, EnrolResponse, join_server},
};
use orchestra_types::{Timestamp, WorkerId};
use tonic::{Response, Status};

use super::{
    enrolment::{Claim, EnrolError, Enrolment},
    pki::{self, Pki},
};

/// The Join service.
pub struct Join {
    pki: Arc<Pki>,
    enrolment: Arc<Enrolment>,
}

impl Join {
    pub(super) fn new(pki: Arc<Pki>, enrolment: Arc<Enrolment>) -> Self {
        Self { pki, enrolment }
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
                tracing::warn!(worker, ?from, reason = %error, "worker may not join");
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
    let malformed = |what: &str, why: String| EnrolError::Malformed(format!("{what}: {why}"));
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

fn clock() -> Timestamp {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
