//! The Renewal service: a certificate that is good in, a new one for the same holder out.
//!
//! Nothing is asked for, so nothing can be asked for that is another's: name and key are those of the
//! certificate that the connection was made with. The key stays, and with it all that is kept of it: the
//! worker's place in the book, and whether it was revoked.

use std::sync::Arc;

use orchestra_proto::v1::{RenewRequest, RenewResponse, renewal_server};
use orchestra_types::Timestamp;
use tonic::{
    Request, Response, Status,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};

use super::{
    Identity, caller,
    certificates::Certificates,
    enrolment::Enrolment,
    issue,
    join::clock,
    pki::{Error, Pki},
    refusal::Denied,
};
use crate::sparing::Sparing;

/// The Renewal service. The gate lets only holders of a certificate pass that was not revoked.
pub struct Renewal {
    pki: Arc<Pki>,
    enrolment: Arc<Enrolment>,
    certificates: Arc<Certificates>,
    /// What is logged of it: anybody with a certificate may ask, as often as he likes.
    told: Sparing,
}

/// Why a certificate is not made anew.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The key is not the one that the worker has joined with.
    #[error(
        "{0} is not known here with this key; join again: `orchestra-worker join` with a new token of `ctl token create`"
    )]
    Unknown(Identity),
    /// The key was revoked.
    #[error("the credentials of {0} were revoked")]
    Revoked(Identity),
    /// The certificate could not be made.
    #[error("the head could not make the certificate")]
    Make(#[source] Error),
}

impl Renewal {
    pub(super) fn new(
        pki: Arc<Pki>,
        enrolment: Arc<Enrolment>,
        certificates: Arc<Certificates>,
    ) -> Self {
        Self {
            pki,
            enrolment,
            certificates,
            told: Sparing::default(),
        }
    }

    /// The certificate in `der`, which the gate knows as `holder`'s, made anew.
    pub(super) fn renewed(
        &self,
        holder: &Identity,
        der: &[u8],
        now: Timestamp,
    ) -> Result<String, RenewalError> {
        let key = issue::key_of_der(der).map_err(RenewalError::Make)?;
        self.enrolment.may_renew(holder, &key)?;
        let made = self.pki.renew(holder, der, now);
        let made = made.map_err(RenewalError::Make)?;
        // The worker's stream goes on, and has been made with the one before.
        let until = issue::first_certificate(&made).map(|der| issue::until(&der));
        if let (Identity::Worker(id), Ok(Some(until))) = (holder, until) {
            self.certificates.note(id, until);
        }
        Ok(made)
    }

    fn log(&self, holder: &Identity, renewed: &Result<String, RenewalError>) {
        let Some(left_out) = self.told.may() else {
            return;
        };
        match renewed {
            Ok(_) => tracing::info!(%holder, left_out, "certificate renewed"),
            Err(error) => {
                tracing::warn!(%holder, reason = %error, left_out, "certificate not renewed");
            }
        }
    }
}

#[tonic::async_trait]
impl renewal_server::Renewal for Renewal {
    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let holder = caller(&request)?;
        let shown = request
            .extensions()
            .get::<TlsConnectInfo<TcpConnectInfo>>()
            .and_then(TlsConnectInfo::peer_certs)
            .ok_or(Denied::NoCertificate)?;
        let leaf = shown.first().ok_or(Denied::NoCertificate)?;
        let renewed = self.renewed(holder, leaf, clock());
        self.log(holder, &renewed);
        let certificate_pem = renewed?;
        Ok(Response::new(RenewResponse { certificate_pem }))
    }
}
